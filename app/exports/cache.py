"""Exported files by the weights that they were made of: a folder that may be lost, and forgets the longest unused."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from models.exports.exporting import Exported
from models.exports.formats import Format

IN_USE_S = 60.0
"""A file asked for so lately may not have been opened yet."""
ABANDONED_S = 24 * 3600.0
"""An unfinished file untouched for so long is left from a server that was killed."""
UNFINISHED = ".part"


@dataclass(frozen=True)
class Export:
    """A checked file and what is known of it."""

    path: Path
    about: Exported


class ExportCache:
    """Files and, beside each, a JSON file with what is known of it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{UNFINISHED}"):
            if _unused_s(left) > ABANDONED_S:
                left.unlink(missing_ok=True)

    def find(self, sha256: str, format: Format) -> Export | None:
        """The file made of these weights by this version of Tandem; None if there is none, or a damaged one."""
        path = self._path(sha256, format)
        try:
            about = Exported(**json.loads(_about(path).read_text()))
            os.utime(path)
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == about.sha256
        except (OSError, ValueError, TypeError):
            return None
        return Export(path, about) if whole else None

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A path to write a file to; what is still there at the end is deleted."""
        path = self._folder / f"{uuid4().hex}{UNFINISHED}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, sha256: str, format: Format, unfinished: Path, about: Exported) -> Export:
        """Take a finished file in, and make room for it."""
        path = self._path(sha256, format)
        with self.unfinished() as note:
            note.write_text(json.dumps(asdict(about)))
            unfinished.replace(path)
            note.replace(_about(path))
        self._make_room()
        return Export(path, about)

    def _make_room(self) -> None:
        files = [path for path in self._folder.iterdir() if path.suffix not in (".json", UNFINISHED)]
        excess = sum(map(_size, files)) - self._max_bytes
        for path in sorted(files, key=_unused_s, reverse=True):
            if excess <= 0 or _unused_s(path) < IN_USE_S:
                return
            excess -= _size(path)
            path.unlink(missing_ok=True)
            _about(path).unlink(missing_ok=True)

    def _path(self, sha256: str, format: Format) -> Path:
        return self._folder / f"{sha256}-{version('tandem')}{format.suffix}"


def _about(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unused_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
