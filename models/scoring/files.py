"""The result as one file: parts joined, a few thousand rows at a time, so that equal rows give equal bytes however they
were parted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
from pyarrow import parquet

from models.scoring.parts import COMPRESSION
from models.scoring.spec import ResultFormat

LINES = 1024
"""Rows that are turned into lines together."""


def write(
    parts: Sequence[Path], schema: pa.Schema, path: Path, format: ResultFormat, group_rows: int
) -> None:
    """Join the parts, in their order, to a file of this format; `group_rows` is the size of Parquet's row groups."""
    if format == "jsonl":
        _write_lines(parts, path)
    else:
        _write_groups(parts, schema, path, group_rows)


def _write_lines(parts: Sequence[Path], path: Path) -> None:
    with path.open("wb") as file:
        for batch in _batches(parts, LINES):
            file.writelines(orjson.dumps(row) + b"\n" for row in batch.to_pylist())


def _write_groups(parts: Sequence[Path], schema: pa.Schema, path: Path, group_rows: int) -> None:
    with parquet.ParquetWriter(path, schema, compression=COMPRESSION) as file:
        waiting = schema.empty_table()
        for batch in _batches(parts, group_rows):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], schema)])
            while waiting.num_rows >= group_rows:
                # In one piece: the writer's pages follow the pieces of what it is given.
                file.write_table(waiting.slice(0, group_rows).combine_chunks(), group_rows)
                waiting = waiting.slice(group_rows)
        if waiting.num_rows:
            file.write_table(waiting.combine_chunks(), group_rows)


def _batches(parts: Sequence[Path], rows: int) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with parquet.ParquetFile(part) as file:
            yield from file.iter_batches(batch_size=rows)
