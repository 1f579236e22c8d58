"""Rows of a prediction request, as lists or as objects by column name, turned into one batch of numbers."""

from collections.abc import Sequence
from itertools import chain
from math import hypot
from typing import Any

import numpy as np

from models.errors import InvalidInput, suggest
from models.preprocessing.fields import escaped

NUMBERS = frozenset({int, float})
LARGEST = float(np.finfo(np.float32).max)


def row_batch(items: Sequence[object], columns: Sequence[str]) -> np.ndarray:
    """The rows as raw model input, float32 [B, F]; F is the number of columns.

    Raises:
        InvalidInput: with the pointer of the first bad item, `/inputs/<i>`, or of its bad value.
    """
    if not items:
        raise InvalidInput("Send at least one input.", pointer="/inputs")
    rows = _whole_rows(items, len(columns))
    if rows is None:
        known = frozenset(columns)
        rows = [cells_of(item, index, columns, known) for index, item in enumerate(items)]
    x = _numbers(rows)
    if x is None:
        raise _first_fault(items, rows, columns)
    return x


def _whole_rows(items: Sequence[object], width: int) -> list[list[object]] | None:
    """The items, if all are lists of this length."""
    rows: list[list[object]] = []
    for item in items:
        if type(item) is not list or len(item) != width:
            return None
        rows.append(item)
    return rows


def _numbers(rows: list[list[object]]) -> np.ndarray | None:
    """In plain Python where it can be, which for a few rows is several times faster than NumPy."""
    cells: list[Any] = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
    # NumPy would take true for 1 and "1" for 1.0, so the types are looked at first.
    if not NUMBERS.issuperset(map(type, cells)):
        return None
    try:
        # None is larger than the length of all as a vector; NaN is not smaller than anything.
        surely_fit = hypot(*cells) <= LARGEST
    except OverflowError:  # of an integer
        return None
    return np.array(rows, dtype=np.float32) if surely_fit or all(map(_fits, cells)) else None


def _fits(number: float) -> bool:
    return -LARGEST <= number <= LARGEST


def cells_of(
    item: object,
    index: int,
    columns: Sequence[str],
    known: frozenset[str],
    optional: frozenset[str] = frozenset(),
) -> list[object]:
    """The values of one row in the order of the columns, which are `known`; None for an `optional` one that an object
    leaves out."""
    if isinstance(item, np.ndarray):
        item = item.tolist()
    if isinstance(item, dict):
        if item.keys() != known and not known - optional <= item.keys() <= known:
            raise _wrong_columns(item, index, columns, optional)
        return [item.get(column) for column in columns]
    if not isinstance(item, list):
        raise InvalidInput(
            "This model takes rows. Send each input as a list of numbers or an object by column name.",
            pointer=f"/inputs/{index}",
        )
    if len(item) != len(columns):
        raise InvalidInput(
            f"The row has {len(item)} value(s); the model takes {len(columns)}: {_listed(columns)}.",
            pointer=f"/inputs/{index}",
        )
    return item


def pointer_of(item: object, index: int, place: int, columns: Sequence[str]) -> str:
    """Where one value of an item is: by the column's name in an object, by its place in a list."""
    return f"/inputs/{index}/{escaped(columns[place]) if isinstance(item, dict) else place}"


def _wrong_columns(
    item: dict[str, object], index: int, columns: Sequence[str], optional: frozenset[str]
) -> InvalidInput:
    unknown = next((str(name)[:100] for name in item if name not in columns), None)
    missing = [column for column in columns if column not in item and column not in optional]
    if unknown is not None:
        hint = suggest(unknown, columns)
        if len(hint) > 300:  # no near name, and a table too wide to list
            hint = f"Known: {_listed(columns)}."
        return InvalidInput(
            f"Unknown column {unknown!r}. {hint}", pointer=f"/inputs/{index}/{escaped(unknown)}"
        )
    return InvalidInput(f"Missing column(s): {_listed(missing)}.", pointer=f"/inputs/{index}")


def _first_fault(items: Sequence[object], rows: list[list[object]], columns: Sequence[str]) -> InvalidInput:
    index, place, fault = next(
        (index, place, fault)
        for index, row in enumerate(rows)
        for place, value in enumerate(row)
        if (fault := _fault(value))
    )
    pointer = pointer_of(items[index], index, place, columns)
    return InvalidInput(f"Column {columns[place]!r} {fault}.", pointer=pointer)


def _fault(value: object) -> str | None:
    """What is wrong with one value, or None."""
    if value is None:
        return "is missing (null); every column needs a number"
    if type(value) not in (int, float):
        return "is not a number"
    if value != value:
        return "is NaN; every column needs a finite number"
    if abs(value) > LARGEST:  # type: ignore[arg-type]  # int or float here
        return "is too large for a 32-bit floating-point number"
    return None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
