"""Exported files by the weights that they were made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from models.exports.exporting import Exported
from models.exports.formats import Format
from models.kept_files import KeptFiles


@dataclass(frozen=True)
class Export:
    """A checked file and what is known of it."""

    path: Path
    about: Exported


class ExportCache:
    """Each file under its weights, its format and the version of Tandem that made it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._files = KeptFiles(folder, max_bytes)

    def find(self, sha256: str, format: Format) -> Export | None:
        """The file made of these weights by this version of Tandem; None if there is none, or a damaged one."""
        found = self._files.find(_name(sha256, format))
        try:
            return None if found is None else Export(found.path, Exported(**found.about))
        except TypeError:
            return None

    @contextmanager
    def unfinished(self) -> Iterator[Path]:
        """A path to write a file to; what is still there at the end is deleted."""
        with self._files.unfinished() as path:
            yield path

    def keep(self, sha256: str, format: Format, unfinished: Path, about: Exported) -> Export:
        """Take a finished file in, and make room for it."""
        return Export(self._files.keep(_name(sha256, format), unfinished, asdict(about)), about)


def _name(sha256: str, format: Format) -> str:
    return f"{sha256}-{version('tandem')}{format.suffix}"
