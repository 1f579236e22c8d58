"""Files that were costly to make and can be made again: a folder that may be lost, and forgets the longest unused."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from models.durable import sha256_of

IN_USE_S = 60.0
"""A file asked for so lately may not have been opened yet."""
ABANDONED_S = 24 * 3600.0
"""A file without what is known of it, untouched for so long, is left from a process that was killed."""
UNFINISHED = ".part"
NOTE = ".json"
SHA256 = "sha256"


@dataclass(frozen=True)
class KeptFile:
    """A file that is whole, and what is known of it."""

    path: Path
    about: Mapping[str, Any]


class KeptFiles:
    """Files by name and, beside each, a JSON file with what is known of it. For several processes at once."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.suffix != NOTE and not _about(path).exists() and _unused_s(path) > ABANDONED_S:
                path.unlink(missing_ok=True)

    def find(self, name: str) -> KeptFile | None:
        """The file of this name; None if there is none, or a damaged one."""
        path = self.folder / name
        try:
            about = json.loads(_about(path).read_text())
            os.utime(path)
            whole = sha256_of(path) == about[SHA256]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return KeptFile(path, about) if whole else None

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A path to write a file to; what is still there at the end is deleted."""
        path = self.folder / f"{uuid4().hex}{UNFINISHED}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, name: str, unfinished: Path, about: Mapping[str, Any]) -> Path:
        """Take a finished file in, and make room for it. `about` has at least its `sha256`."""
        path = self.folder / name
        with self.unfinished() as note:
            note.write_text(json.dumps(dict(about)))
            unfinished.replace(path)
            note.replace(_about(path))
        self._make_room()
        return path

    def _make_room(self) -> None:
        files = [path for path in self.folder.iterdir() if path.suffix not in (NOTE, UNFINISHED)]
        excess = sum(map(_size, files)) - self._max_bytes
        for path in sorted(files, key=_unused_s, reverse=True):
            if excess <= 0 or _unused_s(path) < IN_USE_S:
                return
            excess -= _size(path)
            path.unlink(missing_ok=True)
            _about(path).unlink(missing_ok=True)


def _about(path: Path) -> Path:
    return path.with_name(path.name + NOTE)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unused_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
