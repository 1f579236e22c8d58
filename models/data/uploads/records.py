"""Rows of named values, as every file with columns gives them, one at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.data.uploads.labels import check_name
from models.data.uploads.options import Limits
from models.errors import InvalidInput, suggest

Value = str | int | float | bool | None
"""What a cell may hold; None where there is nothing."""

NOT_UNICODE = " holds characters that are no text (NUL, or half of a surrogate pair)"

# What spreadsheets and data frames write for "there is nothing".
_GAPS = frozenset({"", "na", "n/a", "nan", "null"})


@dataclass(frozen=True)
class Records:
    """`rows`: the number of each row in the file, and its values in the order of `columns`. `word` is what a row is
    called in errors, and `note` what has to be said about its number."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[int, Sequence[Value]]]
    word: str = "Row"
    note: str = ""

    def fault(self, row: int, detail: str, column: str | None = None) -> InvalidInput:
        """What is wrong with a row, or with its value in one column."""
        where = f"{self.word} {row}" + ("" if column is None else f", column {column!r}")
        return InvalidInput(f"{where}{detail}.{self.note}", pointer="/file")


def is_missing(value: Value) -> bool:
    if isinstance(value, str):
        return len(value) < 8 and value.strip().lower() in _GAPS
    return value is None or value != value


def is_unicode(text: str) -> bool:
    """Whether files and databases can keep the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def check_columns(names: Sequence[str], limits: Limits) -> None:
    """Raise InvalidInput unless every name is one, and is there once."""
    if len(names) > limits.columns:
        raise InvalidInput(
            f"The file has {len(names)} columns; at most {limits.columns} are taken.", pointer="/file"
        )
    for number, name in enumerate(names, start=1):
        check_name(name, f"The name of column {number}", limits)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"Two columns are named {twice!r}. Give each its own name.", pointer="/file")


def place_of(name: str, columns: Sequence[str], pointer: str) -> int:
    """Where the column is. Raises InvalidInput, with the nearest name, where there is none."""
    if name in columns:
        return columns.index(name)
    hint = suggest(name[:100], columns)
    if len(hint) > 300:  # no near name, and a table too wide to list
        hint = f"The columns begin with {', '.join(columns[:8])}."
    raise InvalidInput(f"The file has no column {name[:100]!r}. {hint}", pointer=pointer)
