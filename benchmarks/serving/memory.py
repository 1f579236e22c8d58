"""What a server takes of the memory."""

from pathlib import Path
from typing import NamedTuple


class Resident(NamedTuple):
    """Resident memory in MB. `own_mb`: what was allocated. `files_mb`: of mapped files, code and libraries for the
    most part; what other processes map too is divided among all of them, so it rises when one of those ends."""

    own_mb: float
    files_mb: float


def resident_mb(pid: int) -> float:
    """The resident memory of a process and all its descendants in MB; what they share counts once (PSS)."""
    return sum(resident(pid))


def resident(pid: int) -> Resident:
    """As `resident_mb`, in its parts."""
    found = [_pss_kb(one) for one in family(pid)]
    return Resident(
        own_mb=sum(one.get("Pss_Anon", 0) + one.get("Pss_Shmem", 0) for one in found) / 1024,
        files_mb=sum(one.get("Pss_File", 0) for one in found) / 1024,
    )


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def _pss_kb(pid: int) -> dict[str, int]:
    """By the kind of memory: Pss_Anon, Pss_Shmem and Pss_File."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return {}
    fields = (line.split() for line in lines if line.startswith("Pss_"))
    return {name.rstrip(":"): int(size) for name, size, *_ in fields}
