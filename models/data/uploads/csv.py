"""Uploads in CSV: a header row, then a row for each sample; read a row at a time.

A table that holds nothing but numbers, as most do, is read at once; only where a cell turns out to be none does a
second reading find out what each column holds.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.uploads.labels import classes_of, encode
from models.data.uploads.options import Limits, UploadOptions
from models.data.uploads.records import Records, is_missing
from models.data.uploads.tables import read_table, target_place
from models.data.uploads.texts import read_texts
from models.errors import InvalidInput

csv.field_size_limit(
    max(csv.field_size_limit(), Limits().record_characters)
)  # a row's length is bounded anyway
NOTE = " (The header is row 1.)"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class _Lines:
    """The lines of a file, for `csv.reader`, and END after the last. `fresh` is called at each record, which may run
    over many lines; a record beyond the limit is refused before it fills the memory.

    A row that swallows END has a quotation mark that nothing closes; `csv.reader` itself would not tell.
    """

    END = "end of file"

    def __init__(self, file: TextIO, limit: int) -> None:
        self.ended = False
        self._file = file
        self._limit = limit
        self._left = limit

    def fresh(self) -> None:
        self._left = self._limit

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise InvalidInput(
                    f"A row is longer than {self._limit} characters. Is a quotation mark left open?",
                    pointer="/file",
                )
            yield line
        self.ended = True
        yield self.END

    def check_end(self, row: int, cells: Sequence[str]) -> None:
        """Whether the last line really was the last, where these are the cells that came with END."""
        if list(cells) != [self.END]:
            raise InvalidInput(
                f"Row {row} opens a quotation mark that is never closed.{NOTE}", pointer="/file"
            )


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in a CSV file in UTF-8, with or without a byte order mark.

    Raises:
        InvalidInput: names the row (the header is row 1) and the column at fault.
    """
    if options.task == "image-classification":
        raise InvalidInput(
            "A .csv file holds texts or a table. Send images as .zip or .npz.", pointer="/task"
        )
    try:
        if options.task == "text-classification":
            with _opened(path) as file:
                return read_texts(_records(file, options.limits), options)
        if not options.columns:
            with _opened(path) as file:
                try:
                    return _numbers_only(file, options)
                except _OtherThanNumbers:
                    pass
        with _opened(path) as file:
            return read_table(_records(file, options.limits), options)
    except UnicodeDecodeError:
        raise InvalidInput("The file is not a text in UTF-8. Save it as UTF-8.", pointer="/file") from None
    except csv.Error as error:
        raise InvalidInput(f"The file is not a readable CSV: {error}.", pointer="/file") from error


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", newline="")


def _records(file: TextIO, limits: Limits) -> Records:
    """The header and the rows after it, as texts."""
    lines = _Lines(file, limits.record_characters)
    rows = csv.reader(lines)
    header = tuple(name.strip() for name in next(rows))
    if lines.ended:
        lines.check_end(1, header)
        header = ()
    _check_separated(header)
    lines.fresh()
    return Records(header, _rows(rows, lines, len(header)), note=NOTE)


def _rows(rows: Iterator[list[str]], lines: _Lines, columns: int) -> Iterator[tuple[int, list[str]]]:
    for row, cells in enumerate(rows, start=2):
        lines.fresh()
        if lines.ended:
            return lines.check_end(row, cells)
        if not cells:  # a blank line
            continue
        if len(cells) != columns:
            raise InvalidInput(
                f"Row {row} has {len(cells)} cell(s) but the header has {columns}.{NOTE}", pointer="/file"
            )
        yield row, cells


def _check_separated(header: Sequence[str]) -> None:
    if not header:
        raise InvalidInput("The file is empty. It needs a header row and rows of data.", pointer="/file")
    if len(header) == 1:
        if any(mark in header[0] for mark in ";\t|"):
            raise InvalidInput(
                "The cells are not separated by commas. Save the file with commas.", pointer="/file"
            )
        raise InvalidInput("The file has no column besides the target.", pointer="/file")


class _OtherThanNumbers(Exception):
    """A cell is empty or not a number."""


def _numbers_only(file: TextIO, options: UploadOptions) -> Dataset:
    """The dataset in a table whose features are all numbers. Raises _OtherThanNumbers where one is none."""
    records = _records(file, options.limits)
    place = target_place(records.columns, options)
    columns = (*records.columns[:place], *records.columns[place + 1 :])
    values, targets = array("f"), list[str]()
    for _, row in records.rows:
        cells: list[str] = list(row)  # type: ignore[arg-type]  # a CSV has nothing but texts
        targets.append(cells.pop(place).strip())
        values.extend(_numbers(cells))
    if not targets:
        raise InvalidInput("The file has a header but no rows of data.", pointer="/file")
    if any(map(is_missing, targets)):
        raise _OtherThanNumbers
    classes, y_N = _targets(targets, records.columns[place], options)
    return assemble(
        "tabular-regression" if classes is None else "tabular-classification",
        Split(np.frombuffer(values, np.float32).reshape(len(targets), len(columns)), y_N),
        classes=classes,
        columns=columns,
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        target=records.columns[place],
        folder=options.folder,
    )


def _numbers(cells: Sequence[str]) -> list[float]:
    """The cells as numbers that fit float32."""
    try:
        numbers = list(map(float, cells))
    except ValueError:
        raise _OtherThanNumbers from None
    # One comparison clears nearly every row: NaN is not <= anything, and Python would read 1_000 as 1000.
    if sum(map(abs, numbers)) <= _FLOAT32_MAX and "_" not in "".join(cells):
        return numbers
    if all(abs(number) <= _FLOAT32_MAX for number in numbers) and "_" not in "".join(cells):
        return numbers
    raise _OtherThanNumbers


def _targets(
    cells: list[str], name: str, options: UploadOptions
) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """The classes, None for a regression, and the targets."""
    if options.task == "tabular-regression":
        return None, np.array(_numbers(cells), np.float32)
    classes = classes_of(cells, f"Column {name!r}", options.limits)
    return classes, encode(cells, classes)
