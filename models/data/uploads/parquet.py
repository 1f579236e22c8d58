"""Uploads in Apache Parquet, read with pyarrow a few thousand rows at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from models.data.dataset import Dataset
from models.data.uploads.options import Limits, UploadOptions
from models.data.uploads.records import Records, Value, check_columns
from models.data.uploads.tables import read_table
from models.data.uploads.texts import read_texts, text_places
from models.errors import InvalidInput

ROWS = 4096
_VALUE_BYTES = 8
"""What a table takes for each value while it is read: a number and the place of a category."""


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
            names = tuple(file.schema_arrow.names)
            check_columns(names, options.limits)
            strings = [name for name in names if _is_text(file.schema_arrow.field(name).type)]
        # As dictionaries: one long text in a million rows takes a few bytes, and is here one text too.
        with parquet.ParquetFile(path, read_dictionary=strings) as file:
            return _read(file, path.stat().st_size, options)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(
            f"The file is not a readable Parquet file: {str(error).rstrip('.')[:200]}. Write it with pandas' to_parquet"
            " or with pyarrow.",
            pointer="/file",
        ) from error


def _read(file: parquet.ParquetFile, packed: int, options: UploadOptions) -> Dataset:
    names = tuple(file.schema_arrow.names)
    texts = options.task == "text-classification"
    if texts:
        used = [names[place] for place in text_places(names, options)]
    else:
        used = [name for name in names if options.columns.get(name) != "ignore"]
    for name in used:
        _check_type(name, file.schema_arrow.field(name).type)
    _check_size(file, packed, len(used), options.limits)
    rows = _rows(file, used)
    if texts:
        return read_texts(Records(tuple(used), _bounded(rows, packed, options.limits)), options)
    return read_table(Records(tuple(used), rows), _without_ignored(options))


def _without_ignored(options: UploadOptions) -> UploadOptions:
    """The options as they hold for the columns that are read."""
    kept = {name: kind for name, kind in options.columns.items() if kind != "ignore"}
    return UploadOptions(**{**vars(options), "columns": kept})


def _rows(file: parquet.ParquetFile, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Value]]]:
    number = 0
    for batch in file.iter_batches(ROWS, columns=list(columns)):
        values = [_values(batch.column(name), name, number) for name in columns]
        for row in zip(*values, strict=True):
            number += 1
            yield number, row


def _bounded(
    rows: Iterator[tuple[int, Sequence[Value]]], packed: int, limits: Limits
) -> Iterator[tuple[int, Sequence[Value]]]:
    """The same rows, up to the size that a file may unpack to: what repeats takes no room in the file."""
    left = min(limits.expanded_bytes, max(limits.expansion_free_bytes, limits.expansion * packed))
    for number, row in rows:
        left -= sum(len(value) for value in row if isinstance(value, str))
        if left < 0:
            raise InvalidInput(
                f"Up to row {number} the texts are already more than {limits.expansion} times as large as the file, or"
                f" than {limits.expanded_bytes} bytes. Leave out rows that repeat.",
                pointer="/file",
                code="too_large_unpacked",
            )
        yield number, row


def _values(column: pa.Array, name: str, before: int) -> list[Value]:
    """The values of a column, after so many rows of the file; rows of the same text share it."""
    if not pa.types.is_dictionary(column.type):
        # The Python values of decimals would be neither texts nor numbers.
        plain = column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column
        return list(plain.to_pylist())
    places = column.indices.to_pylist()
    used = sorted({place for place in places if place is not None})
    found = column.dictionary.take(pa.array(used, pa.int64()))
    try:
        words = dict(zip(used, _values(found, name, before), strict=True))
    except UnicodeDecodeError:
        at = next(
            row
            for row, place in enumerate(places)
            if place is not None and not _is_unicode(found[used.index(place)])
        )
        raise InvalidInput(
            f"Row {before + at + 1}, column {name!r} is not a text in UTF-8.", pointer="/file"
        ) from None
    return [None if place is None else words[place] for place in places]


def _is_unicode(text: pa.Scalar) -> bool:
    try:
        text.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_type(name: str, kind: pa.DataType) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_null,
        _is_text,
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


def _check_size(file: parquet.ParquetFile, packed: int, columns: int, limits: Limits) -> None:
    """What the file's own index says it will take, before anything is unpacked."""
    about = file.metadata
    size = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
    most = min(limits.expanded_bytes, max(limits.expansion_free_bytes, limits.expansion * packed))
    if size > most:
        raise InvalidInput(
            f"The file unpacks to {size} bytes; at most {limits.expanded_bytes}, and {limits.expansion} times its own"
            " size, are taken.",
            pointer="/file",
            code="too_large_unpacked",
        )
    if about.num_rows * columns * _VALUE_BYTES > limits.expanded_bytes:
        raise InvalidInput(
            f"The file has {about.num_rows} rows of {columns} columns; at most"
            f" {limits.expanded_bytes // _VALUE_BYTES} values are taken.",
            pointer="/file",
            code="too_large_unpacked",
        )
