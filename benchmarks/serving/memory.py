"""What a server takes of the memory."""

from pathlib import Path


def resident_mb(pid: int) -> float:
    """The resident memory of a process and all its descendants in MB; what they share counts once (PSS)."""
    return sum(_pss_kb(one) for one in family(pid)) / 1024


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
