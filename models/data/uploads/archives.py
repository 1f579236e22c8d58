"""Zip archives from strangers: what may be in one, checked by what it says of itself before anything is unpacked."""

import io
import stat
import zipfile
from pathlib import Path, PurePosixPath

from models.data.uploads.options import Limits
from models.errors import InvalidInput

LARGEST_READ_BYTES = 4 << 20


class SteadyFile(io.FileIO):
    """A file that refuses to be read in larger pieces than `most` bytes: zipfile reads an archive's whole directory at
    once, and a file that is nothing but a directory would fill the memory."""

    def __init__(self, path: Path, most: int = LARGEST_READ_BYTES) -> None:
        super().__init__(path)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = Path(str(self.name)).stat().st_size - self.tell()
        if size > self._most:
            raise zipfile.BadZipFile("its directory is too large")
        return super().read(size) or b""


def check_entries(entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Raise InvalidInput, naming the entry, unless all are plain files under paths of their own, and none too many."""
    seen: set[str] = set()
    for entry in entries:
        if (problem := _problem(entry)) is not None:
            raise fault(entry.filename, problem)
        if entry.filename in seen:
            raise fault(entry.filename, "is in the archive twice")
        seen.add(entry.filename)
    expanded = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if expanded > limits.expanded_bytes or expanded > max(
        limits.expansion_free_bytes, limits.expansion * packed
    ):
        raise InvalidInput(
            f"The archive unpacks to {expanded} bytes; at most {limits.expanded_bytes}, and {limits.expansion} times"
            " its own size, are taken.",
            pointer="/file",
            code="too_large_unpacked",
        )


def fault(name: str, detail: str) -> InvalidInput:
    """What is wrong with an entry."""
    return InvalidInput(f"{name[:200]!a} {detail}.", pointer="/file")


def _problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename
    parts = PurePosixPath(name).parts
    if (
        ".." in parts
        or name.startswith("/")
        or "\\" in name
        or any(":" in part for part in parts[:1])
        or "\x00" in name
    ):
        return "leads out of the archive, or is no path of a zip. Pack the folder itself, with relative paths"
    if entry.flag_bits & 1:
        return "is encrypted. Pack it without a password"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link. Pack the file itself"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that is not read. Use deflate, or store it"
    return None
