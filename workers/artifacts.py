"""Files that never change, kept under the SHA-256 of their content: weights and datasets.

A file appears under its address whole or not at all, even if the process or the machine dies while it is written.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from uuid import uuid4

from models.errors import CorruptArtifact, NotFound

READ_ONLY = 0o444
ADDRESS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    sha256: str
    size_bytes: int


class ArtifactStore:
    """A folder of files by content: `sha256/<hex>`, and `scratch/` for what is not complete yet."""

    def __init__(self, root: Path) -> None:
        self._files = root / "sha256"
        self._scratch = root / "scratch"
        for folder in (self._files, self._scratch):
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, path: Path) -> Artifact:
        """Store a copy of the file at `path`. Storing what is there already repairs it."""
        with self.scratch() as copy:
            shutil.copyfile(path, copy)
            return self.adopt(copy)

    def adopt(self, path: Path) -> Artifact:
        """Store a file written in `scratch()`, without a copy; it is no longer at `path` afterwards."""
        with path.open("rb") as file:
            artifact = Artifact(
                hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
            )
            os.fsync(file.fileno())
        path.chmod(READ_ONLY)
        os.utime(path)
        path.replace(self._address(artifact.sha256))
        _sync_folder(self._files)
        return artifact

    @contextmanager
    def scratch(self, suffix: str = "") -> Iterator[Path]:
        """A path in this store to write a file to; what is still there at the end is deleted."""
        path = self._scratch / f"{uuid4().hex}{suffix}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Raises NotFound when nothing with this hash is stored."""
        path = self._address(sha256)
        if not path.is_file():
            raise NotFound(f"the artifact {sha256[:12]} is not in the store.")
        return path

    def exists(self, sha256: str) -> bool:
        return self._address(sha256).is_file()

    def open(self, sha256: str) -> BufferedReader:
        """Raises NotFound when nothing with this hash is stored."""
        return self.path(sha256).open("rb")

    def verify(self, sha256: str) -> Path:
        """The file, after reading it all. Raises CorruptArtifact when its content is not what its name says."""
        with self.open(sha256) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise CorruptArtifact(
                f"the stored artifact {sha256[:12]} is damaged: its content has the hash {found[:12]}."
            )
        return self._address(sha256)

    def delete(self, sha256: str, idle_s: float = 0) -> bool:
        """Delete a file that was last stored `idle_s` seconds ago or longer; whether it is gone."""
        path = self._address(sha256)
        if path.exists() and _age_s(path) < idle_s:
            return False
        path.unlink(missing_ok=True)
        return True

    def addresses(self, idle_s: float = 0) -> list[str]:
        """The hashes of all files last stored `idle_s` seconds ago or longer."""
        return sorted(path.name for path in self._files.iterdir() if _age_s(path) >= idle_s)

    def clean(self, idle_s: float) -> None:
        """Delete what processes that died have left in scratch, untouched for `idle_s` seconds."""
        remove_idle(self._scratch, idle_s)

    def _address(self, sha256: str) -> Path:
        if not ADDRESS.fullmatch(sha256):
            raise NotFound("an artifact's name is the 64 hexadecimal digits of its SHA-256.")
        return self._files / sha256


def remove_idle(folder: Path, idle_s: float) -> None:
    """Delete the files in a folder that nobody has touched for `idle_s` seconds."""
    for path in folder.glob("*"):
        if _age_s(path) >= idle_s and path.is_file():
            path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _sync_folder(folder: Path) -> None:
    """Make the names in it last, as fsync of a file makes its content last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
