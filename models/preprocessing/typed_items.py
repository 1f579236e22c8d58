"""Rows of a prediction request for a table whose columns hold numbers, categories, true and false, and gaps."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from models.columns import BooleanColumn, CategoricalColumn, Column, category_name
from models.errors import InvalidInput
from models.preprocessing.row_items import LARGEST, cells_of, pointer_of

_TRUTHS = {"true": 1.0, "false": 0.0}
_Reader = Callable[[object], float]


class _Fault(Exception):
    """What is wrong with a value, as the end of a sentence."""


def typed_batch(items: Sequence[object], fields: tuple[Column, ...]) -> np.ndarray:
    """The values of the rows, float32 [B, C]; see features.py. An object may leave out what may be missing.

    Raises:
        InvalidInput: with the pointer of the first bad item, `/inputs/<i>`, or of its bad value.
    """
    if not items:
        raise InvalidInput("Send at least one input.", pointer="/inputs")
    columns = [field.name for field in fields]
    known = frozenset(columns)
    optional = frozenset(field.name for field in fields if field.missing != "refused")
    readers = [_reader(field) for field in fields]
    x = np.empty((len(items), len(fields)), np.float32)
    for index, item in enumerate(items):
        cells = cells_of(item, index, columns, known, optional)
        for place, (value, reader) in enumerate(zip(cells, readers, strict=True)):
            try:
                x[index, place] = reader(value)
            except _Fault as fault:
                pointer = pointer_of(item, index, place, columns)
                raise InvalidInput(f"Column {columns[place]!r} {fault}.", pointer=pointer) from None
    return x


def _reader(field: Column) -> _Reader:
    """What turns a value of this column into a number."""
    read: _Reader
    if isinstance(field, CategoricalColumn):
        places = {name: float(place) for place, name in enumerate(field.categories)}
        read = _category(places)
    else:
        read = _truth if isinstance(field, BooleanColumn) else _number

    def reader(value: object) -> float:
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return read(value)
        if field.missing == "refused":
            raise _Fault("is missing; no row of the training data lacks it, so every row needs it")
        return math.nan

    return reader


def _category(places: dict[str, float]) -> _Reader:
    def read(value: object) -> float:
        if not isinstance(value, str | int | float) or value != value:
            raise _Fault("must be a text or a number")
        return places.get(category_name(value), float(len(places)))

    return read


def _truth(value: object) -> float:
    if isinstance(value, int | float) and value in (0, 1):  # true and false are among the whole numbers
        return float(value)
    if isinstance(value, str) and (text := value.strip().lower()) in _TRUTHS:
        return _TRUTHS[text]
    raise _Fault("must be true or false")


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Fault("is not a number")
    if not abs(value) <= LARGEST:  # NaN is not <= anything
        raise _Fault("is not a finite number that fits a 32-bit float")
    return float(value)
