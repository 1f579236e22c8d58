"""A result in the making: parts on disk, each there whole or not at all, and found again by the next attempt.

A part is a Parquet file named by the number of rows before it, and a manifest beside it, written last, with the hash of
the part and what was counted up to its end.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from models.durable import replacing, sha256_of
from models.scoring.tally import Tally

FORMAT = "tandem-part-1"
COMPRESSION = "zstd"


@dataclass(frozen=True)
class Part:
    """Rows `start` to `start + rows` of the result. `tally` is of all rows up to its end."""

    path: Path
    start: int
    rows: int
    sha256: str
    tally: Tally

    @property
    def manifest(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def is_whole(self) -> bool:
        """Whether the file is what its manifest says."""
        return self.path.exists() and sha256_of(self.path) == self.sha256


class Parts:
    """The parts in a folder of this attempt's own, beginning with those that earlier attempts have left."""

    def __init__(self, folder: Path, earlier: Sequence[Path] = ()) -> None:
        """Of the `earlier` folders the one with most rows is gone on from, up to its first damaged part."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._parts: list[Part] = []
        before = max((list(_chain(one)) for one in earlier), key=_rows, default=[])
        for part in before:
            if not part.is_whole:
                break
            self._adopt(part)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(part.path for part in self._parts)

    @property
    def rows(self) -> int:
        return _rows(self._parts)

    @property
    def tally(self) -> Tally:
        return self._parts[-1].tally if self._parts else Tally()

    def add(self, table: pa.Table, tally: Tally) -> None:
        """Keep the next rows for good."""
        path = self._folder / f"{self.rows:012d}.parquet"
        with replacing(path) as unfinished:
            parquet.write_table(table, unfinished, compression=COMPRESSION)
        self._complete(Part(path, self.rows, table.num_rows, sha256_of(path), tally))

    def _adopt(self, part: Part) -> None:
        """Have an earlier attempt's part here too: whoever deletes that folder does not take it from us."""
        path = self._folder / part.path.name
        path.unlink(missing_ok=True)
        os.link(part.path, path)
        self._complete(Part(path, part.start, part.rows, part.sha256, part.tally))

    def _complete(self, part: Part) -> None:
        about = {"format": FORMAT, "rows": part.rows, "sha256": part.sha256, "tally": part.tally}
        with replacing(part.manifest) as unfinished:
            unfinished.write_text(json.dumps(about))
        self._parts.append(part)


def _chain(folder: Path) -> Iterator[Part]:
    """The parts of a folder from the first row on, as long as none is missing. Their hashes are not checked here."""
    start = 0
    while (about := _manifest(folder / f"{start:012d}.json")) is not None:
        path = folder / f"{start:012d}.parquet"
        yield Part(path, start, about["rows"], about["sha256"], Tally(*about["tally"]))
        start += about["rows"]


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return about if about.get("format") == FORMAT else None


def _rows(parts: Sequence[Part]) -> int:
    return sum(part.rows for part in parts)
