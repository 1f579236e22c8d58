"""From the rows of a file with columns to a dataset of texts to classify."""

import re
from collections.abc import Iterator, Sequence

from models.columns import category_name
from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.texts import Texts
from models.data.uploads.labels import classes_of, encode
from models.data.uploads.options import UploadOptions
from models.data.uploads.records import (
    NOT_UNICODE,
    Records,
    Value,
    check_columns,
    is_missing,
    is_unicode,
    place_of,
)
from models.errors import InvalidInput

TEXT, LABEL = "text", "label"
_WORD = re.compile(r"[^\W_]")


def read_texts(records: Records, options: UploadOptions) -> Dataset:
    """The dataset in these rows, of which the text and the label are used.

    Raises:
        InvalidInput: names the row and the column at fault.
    """
    text, label = text_places(records.columns, options)
    labels: list[str] = []
    texts = Texts.of(_texts(records, text, label, labels, options))
    if not labels:
        raise InvalidInput("The file has no rows of data.", pointer="/file")
    if not any(map(_WORD.search, texts)):
        raise InvalidInput(
            f"No text of column {records.columns[text]!r} has a letter or a digit, so there is no word that a network"
            " could learn. Is it the right column?",
            pointer="/file",
            code="no_words",
        )
    classes = classes_of(labels, f"Column {records.columns[label]!r}", options.limits)
    return assemble(
        "text-classification",
        Split(texts, encode(labels, classes)),
        classes=classes,
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        target=records.columns[label],
        folder=options.folder,
    )


def text_places(columns: Sequence[str], options: UploadOptions) -> tuple[int, int]:
    """Where the text is and where its label. Raises InvalidInput."""
    check_columns(columns, options.limits)
    if options.columns:
        raise InvalidInput("columns is for tables; leave it out for texts.", pointer="/columns")
    label = place_of((options.target or LABEL).strip(), columns, "/target")
    others = [name for place, name in enumerate(columns) if place != label]
    wanted = (options.text or "").strip() or (TEXT if TEXT in others or len(others) != 1 else others[0])
    text = place_of(wanted, columns, "/text")
    if text == label:
        raise InvalidInput("The text and the target must be two columns.", pointer="/text")
    return text, label


def _texts(
    records: Records, text: int, label: int, labels: list[str], options: UploadOptions
) -> Iterator[str]:
    """The texts; their labels are put into `labels` as they come."""
    for row, values in records.rows:
        value, name = values[text], values[label]
        if is_missing(name):
            raise records.fault(row, " is empty; fill it in or leave the row out", records.columns[label])
        if (problem := _problem(value, options)) is not None:
            raise records.fault(row, problem, records.columns[text])
        labels.append(category_name(name))  # type: ignore[arg-type]  # not None: it is not missing
        yield str(value)


def _problem(value: Value, options: UploadOptions) -> str | None:
    """What is wrong with a text, as the rest of a sentence."""
    if value is None or (isinstance(value, str) and not any(map(str.isprintable, value.strip()))):
        return " is empty; fill it in or leave the row out"
    if not isinstance(value, str):
        return f" is {str(value)[:40]}, not a text"
    if len(value) > options.limits.record_characters:
        return f" has more than {options.limits.record_characters} characters"
    return None if is_unicode(value) else NOT_UNICODE
