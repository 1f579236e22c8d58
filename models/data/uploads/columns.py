"""What a column of a table holds: collected a value at a time, decided when all have been seen."""

import math
from array import array

import numpy as np

from models.columns import BooleanColumn, CategoricalColumn, Column, NumericColumn, category_name
from models.data.uploads.options import ColumnKind
from models.data.uploads.records import NOT_UNICODE, Records, Value, is_missing, is_unicode
from models.errors import InvalidInput

MOST_CATEGORIES = 1000
LONGEST_CATEGORY = 200
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TRUTHS = {"true": 1.0, "false": 0.0}
_TOO_MANY = -2


class ColumnReader:
    """Collects the values of one column, as numbers and as categories, until it is known which of the two it holds.

    `kind` is what the sender says it is; None leaves it to the values.
    """

    def __init__(self, name: str, kind: ColumnKind | None = None) -> None:
        self.name = name
        self._kind = kind
        self._numbers = array("f")
        self._codes = array("i")
        self._categories: dict[str, int] = {}
        self._present = self._texts = self._truths = 0
        self._first_text: tuple[int, Value] | None = None
        self._words = False
        self._bad_row: int | None = None

    def add(self, row: int, value: Value) -> None:
        if is_missing(value):
            self._numbers.append(math.nan)
            self._codes.append(-1)
            return
        assert value is not None
        self._present += 1
        if isinstance(value, str) and len(value) > LONGEST_CATEGORY:
            # Neither a number nor a category: it is not worth a look, which takes long in a million long texts.
            self._texts += 1
            self._first_text = self._first_text or (row, value)
            self._words = True
            self._numbers.append(math.nan)
            self._codes.append(_TOO_MANY)
            return
        self._truths += isinstance(value, bool) or str(value).strip().lower() in _TRUTHS
        number = _number(value)
        if number is None:
            self._texts += 1
            self._first_text = self._first_text or (row, value)
            self._words = self._words or _parsed(value) is None
        self._numbers.append(math.nan if number is None else number)
        self._codes.append(self._code(row, category_name(value)))

    def finish(self, records: Records) -> tuple[np.ndarray, Column]:
        """The values, float32 [N], as `models.preprocessing.features` takes them, and what they are.

        Raises:
            InvalidInput: they are neither numbers nor categories; names the first row that is wrong.
        """
        kind = self._kind or self._inferred(records)
        if kind == "categorical":
            return self._as_categories(records)
        if kind == "boolean":
            return self._as_truths(), BooleanColumn(name=self.name)
        if self._first_text is not None:
            raise self._not_a_number(records, *self._first_text)
        return np.frombuffer(self._numbers, np.float32), NumericColumn(name=self.name)

    def _inferred(self, records: Records) -> str:
        if not self._present:
            raise InvalidInput(
                f"Column {self.name!r} has no values. {self._leave_out()}",
                pointer="/file",
                code="empty_column",
            )
        if self._truths == self._present:
            return "boolean"
        if not self._texts:
            return "numeric"
        if self._first_text is not None and (self._texts * 2 < self._present or not self._words):
            # A number mistyped is likelier than categories of which most are numbers; infinite ones are no categories.
            raise self._not_a_number(records, *self._first_text)
        return "categorical"

    def _code(self, row: int, name: str) -> int:
        code = self._categories.get(name)
        if code is None:
            if self._bad_row is None and not is_unicode(name):
                self._bad_row = row
            if len(self._categories) == MOST_CATEGORIES or len(name) > LONGEST_CATEGORY:
                return _TOO_MANY
            code = self._categories[name] = len(self._categories)
        return code

    def _as_categories(self, records: Records) -> tuple[np.ndarray, Column]:
        if self._bad_row is not None:
            raise records.fault(self._bad_row, NOT_UNICODE, self.name)
        codes_N = np.frombuffer(self._codes, np.int32)
        if (codes_N == _TOO_MANY).any():
            raise InvalidInput(
                f"Column {self.name!r} holds more than {MOST_CATEGORIES} different texts, or one of more than"
                f" {LONGEST_CATEGORY} characters: too many for categories. {self._leave_out()}",
                pointer="/file",
                code="too_many_categories",
            )
        values_N = np.where(codes_N < 0, np.nan, codes_N).astype(np.float32)
        return values_N, CategoricalColumn(name=self.name, categories=tuple(self._categories))

    def _as_truths(self) -> np.ndarray:
        truths = [_TRUTHS[name.lower()] for name in self._categories] or [0.0]
        codes_N = np.frombuffer(self._codes, np.int32)
        return np.where(codes_N < 0, np.nan, np.array(truths, np.float32)[codes_N]).astype(np.float32)

    def _not_a_number(self, records: Records, row: int, value: Value) -> InvalidInput:
        wrong = "a number" if _parsed(value) is None else "a finite number that fits a 32-bit float"
        hint = (
            ""
            if self._kind
            else f', as most values of this column are. Correct it, or say {{"{self.name}": '
            '"categorical"} with columns'
        )
        return records.fault(row, f": {str(value)[:40]!a} is not {wrong}{hint}", self.name)

    def _leave_out(self) -> str:
        return f'Leave it out with columns={{"{self.name}": "ignore"}}.'


def _number(value: Value) -> float | None:
    """The value as a number that fits float32; None if it is none."""
    number = _parsed(value)
    return number if number is not None and abs(number) <= _FLOAT32_MAX else None  # NaN is not <= anything


def _parsed(value: Value) -> float | None:
    if isinstance(value, bool) or value is None or (isinstance(value, str) and "_" in value):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
