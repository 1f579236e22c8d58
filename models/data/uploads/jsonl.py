"""Uploads in JSON Lines: one JSON object a line; read a line at a time."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from models.data.dataset import Dataset
from models.data.uploads.options import UploadOptions
from models.data.uploads.records import Records, Value
from models.data.uploads.tables import read_table
from models.data.uploads.texts import read_texts
from models.errors import InvalidInput, suggest

Row = tuple[int, dict[str, Any]]


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in a file of JSON objects in UTF-8, one a line.

    The first line names the columns. In a table a later one may lack some, which are missing then; among texts it may
    have others, which are not used.

    Raises:
        InvalidInput: names the line and the column at fault.
    """
    if options.task == "image-classification":
        raise InvalidInput(
            "A .jsonl file holds texts or a table. Send images as .zip or .npz.", pointer="/task"
        )
    with path.open("rb") as file:
        rows = _objects(file, options.limits.record_characters)
        first = next(rows, None)
        if first is None:
            raise InvalidInput("The file is empty. It needs a JSON object a line.", pointer="/file")
        columns = tuple(map(str, first[1]))
        texts = options.task == "text-classification"
        values = (
            (number, _values(number, found, columns, strict=not texts))
            for number, found in chain([first], rows)
        )
        records = Records(columns, values, word="Line")
        return read_texts(records, options) if texts else read_table(records, options)


def _objects(file: BinaryIO, longest: int) -> Iterator[Row]:
    """The object of every line that is not blank, with the line's number."""
    number = 0
    while line := file.readline(4 * longest + 1):
        number += 1
        if len(line) > 4 * longest:
            raise _fault(number, f"is longer than {4 * longest} bytes. Put one object on each line")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, _object(number, line)


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode(), parse_constant=_refuse, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise _fault(number, "is not a text in UTF-8. Save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _fault(number, f"is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise _fault(number, 'is not a JSON object. Write one a line, e.g. {"text": "...", "label": "..."}')
    if not found:
        raise _fault(number, "is an object without values")
    return found


def _values(number: int, found: dict[str, Any], columns: Sequence[str], *, strict: bool) -> Sequence[Value]:
    if strict and (unknown := next((name for name in found if name not in columns), None)) is not None:
        hint = suggest(unknown[:100], columns)
        raise _fault(
            number, f"has a column {unknown[:100]!r} that the first line does not have. {hint[:300]}"
        )
    for name in columns:
        if isinstance(found.get(name), list | dict):
            raise _fault(
                number,
                f"column {name!r}, holds a list or an object; only texts, numbers, true, false and null"
                " can be used. Flatten it or leave it out",
            )
    return [found.get(name) for name in columns]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def _fault(number: int, detail: str) -> InvalidInput:
    comma = ", " if detail.startswith("column") else " "
    return InvalidInput(f"Line {number}{comma}{detail}.", pointer="/file")
