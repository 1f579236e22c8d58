"""Uploads in CSV: a header row, numeric features, and a target column; read a row at a time."""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.uploads.labels import check_name, classes_of, encode
from models.data.uploads.options import Limits, UploadOptions
from models.errors import InvalidInput, suggest
from models.signature import Task

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class _Lines:
    """The lines of a file, for `csv.reader`. `fresh` is called at each record, which may run over many lines; a
    record beyond the limit is refused before it fills the memory."""

    def __init__(self, file: TextIO, limit: int) -> None:
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


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in a CSV file in UTF-8, with or without a byte order mark.

    Raises:
        InvalidInput: names the row (the header is row 1) and the column at fault.
    """
    if options.task == "image-classification":
        raise InvalidInput("A .csv file holds a table. Send images as .npz.", pointer="/task")
    target = (options.target or "").strip()
    if not target:
        raise InvalidInput("Say with target which column is to be predicted.", pointer="/target")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = _read_table(file, target, options)
    except UnicodeDecodeError:
        raise InvalidInput("The file is not a text in UTF-8. Save it as UTF-8.", pointer="/file") from None
    except csv.Error as error:
        raise InvalidInput(f"The file is not a readable CSV: {error}.", pointer="/file") from error
    return _dataset(table, target, options)


@dataclass(frozen=True)
class _Table:
    """`x`: float32 [N, F], F the number of columns. `targets`: the N cells of the target column."""

    columns: list[str]
    x: np.ndarray
    targets: list[str]


def _read_table(file: TextIO, target: str, options: UploadOptions) -> _Table:
    lines = _Lines(file, options.limits.record_characters)
    records = csv.reader(lines)
    header = [name.strip() for name in next(records, [])]
    place = _target_place(header, target, options.limits)
    features = header[:place] + header[place + 1 :]
    check_target = _number if options.task == "tabular-regression" else _filled
    values, targets = array("f"), list[str]()
    lines.fresh()
    for row, cells in enumerate(records, start=2):
        lines.fresh()
        if not cells:  # a blank line
            continue
        if len(cells) != len(header):
            raise _fault(f"Row {row} has {len(cells)} cell(s) but the header has {len(header)}")
        cell = cells.pop(place).strip()
        check_target(cell, target, row)
        targets.append(cell)
        values.extend(_numbers(cells, features, row))
    if not targets:
        raise InvalidInput("The file has a header but no rows of data.", pointer="/file")
    return _Table(features, np.frombuffer(values, np.float32).reshape(len(targets), len(features)), targets)


def _target_place(header: Sequence[str], target: str, limits: Limits) -> int:
    """Position of the target in a header that has been checked."""
    if not header:
        raise InvalidInput("The file is empty. It needs a header row and rows of data.", pointer="/file")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InvalidInput(
            "The cells are not separated by commas. Save the file with commas.", pointer="/file"
        )
    if len(header) > limits.columns:
        raise InvalidInput(
            f"The file has {len(header)} columns; at most {limits.columns} are taken.", pointer="/file"
        )
    for number, name in enumerate(header, start=1):
        check_name(name, f"The name of column {number} in row 1", limits)
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InvalidInput(f"Two columns are named {twice!r}. Give each its own name.", pointer="/file")
    if target not in header:
        hint = suggest(target[:100], header)
        if len(hint) > 300:  # no near name, and a table too wide to list
            hint = f"The columns begin with {', '.join(header[:8])}."
        raise InvalidInput(f"There is no column {target[:100]!r}. {hint}", pointer="/target")
    if len(header) == 1:
        raise InvalidInput("The file has no column besides the target.", pointer="/file")
    return header.index(target)


def _numbers(cells: Sequence[str], names: Sequence[str], row: int) -> list[float]:
    """The cells as numbers that fit float32."""
    try:
        numbers = list(map(float, cells))
    except ValueError:
        numbers = [math.nan]
    # One comparison clears nearly every row: NaN is not <= anything, and Python would read 1_000 as 1000.
    if sum(map(abs, numbers)) <= _FLOAT32_MAX and "_" not in "".join(cells):
        return numbers
    return [_number(cell, name, row) for cell, name in zip(cells, names, strict=True)]


def _number(cell: str, name: str, row: int) -> float:
    _filled(cell, name, row)
    try:
        number = math.nan if "_" in cell else float(cell)
    except ValueError:
        raise _fault(f"Row {row}, column {name!r}: {cell[:40]!a} is not a number") from None
    if not abs(number) <= _FLOAT32_MAX:  # NaN is not
        raise _fault(
            f"Row {row}, column {name!r}: {cell[:40]!a} is not a finite number that fits a 32-bit float"
        )
    return number


def _filled(cell: str, name: str, row: int) -> None:
    if not cell.strip():
        raise _fault(f"Row {row}, column {name!r} is empty; fill it in or leave the row out")


def _fault(detail: str) -> InvalidInput:
    return InvalidInput(f"{detail}. (The header is row 1.)", pointer="/file")


def _dataset(table: _Table, target: str, options: UploadOptions) -> Dataset:
    if options.task == "tabular-regression":
        task: Task = "tabular-regression"
        classes, y = None, np.array([float(cell) for cell in table.targets], np.float32)
    else:
        task = "tabular-classification"
        classes = classes_of(table.targets, f"Column {target!r}", options.limits)
        y = encode(table.targets, classes)
    return assemble(
        task,
        Split(table.x, y),
        classes=classes,
        columns=table.columns,
        test_fraction=options.test_fraction,
        target=target,
    )
