"""Uploads in Apache Parquet, read with pyarrow a few thousand rows at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from models.data.dataset import Dataset
from models.data.uploads.options import Limits, UploadOptions
from models.data.uploads.records import Records, Value
from models.data.uploads.tables import read_table
from models.data.uploads.texts import read_texts, text_places
from models.errors import InvalidInput

ROWS = 4096


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in a Parquet file of plain columns: numbers, texts, booleans, or dictionaries of these.

    Raises:
        InvalidInput: names the column, or the row, at fault.
    """
    if options.task == "image-classification":
        raise InvalidInput(
            "A .parquet file holds texts or a table. Send images as .zip or .npz.", pointer="/task"
        )
    try:
        with parquet.ParquetFile(path) as file:
            _check_size(file, options.limits)
            return _read(file, options)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"The file is not a readable Parquet file: {str(error).rstrip('.')[:200]}. Write it with pandas' to_parquet"
            " or with pyarrow.",
            pointer="/file",
        ) from error


def _read(file: parquet.ParquetFile, options: UploadOptions) -> Dataset:
    names = tuple(file.schema_arrow.names)
    texts = options.task == "text-classification"
    if texts:
        used = [names[place] for place in text_places(names, options)]
    else:
        used = [name for name in names if options.columns.get(name) != "ignore"]
    for name in used:
        _check_type(name, file.schema_arrow.field(name).type)
    records = Records(tuple(used), _rows(file, used))
    return read_texts(records, options) if texts else read_table(records, _without_ignored(options))


def _without_ignored(options: UploadOptions) -> UploadOptions:
    """The options as they hold for the columns that are read."""
    kept = {name: kind for name, kind in options.columns.items() if kind != "ignore"}
    return UploadOptions(**{**vars(options), "columns": kept})


def _rows(file: parquet.ParquetFile, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Value]]]:
    number = 0
    for batch in file.iter_batches(ROWS, columns=list(columns)):
        values = [_plain(batch.column(name)).to_pylist() for name in columns]
        for row in zip(*values, strict=True):
            number += 1
            yield number, row


def _plain(column: pa.Array) -> pa.Array:
    """Without dictionaries and decimals, whose Python values would be neither texts nor numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def _check_type(name: str, kind: pa.DataType) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_null,
    )
    if any(test(kind) for test in tests):
        return
    nested = "nested, of type" if pa.types.is_nested(kind) else "of type"
    raise InvalidInput(
        f"Column {name!r} is {nested} {str(kind)[:80]}; numbers, texts and booleans can be used. Convert it, or leave"
        f' it out with columns={{"{name}": "ignore"}}.',
        pointer="/file",
        code="unusable_column",
    )


def _check_size(file: parquet.ParquetFile, limits: Limits) -> None:
    """What the file's own index says it will take, before anything is unpacked."""
    about = file.metadata
    size = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
    if size > limits.expanded_bytes:
        raise InvalidInput(
            f"The file unpacks to {size} bytes; at most {limits.expanded_bytes} are taken.",
            pointer="/file",
            code="too_large_unpacked",
        )
