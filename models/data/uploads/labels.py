"""From the labels of a file, numbers or texts, to classes and indices into them."""

import re
from collections.abc import Sequence

import numpy as np

from models.data.uploads.options import Limits
from models.errors import InvalidInput

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def classes_of(labels: Sequence[str], where: str, limits: Limits) -> tuple[str, ...]:
    """The distinct labels in order: by value when all are whole numbers, else as texts.

    Raises:
        InvalidInput: fewer than two classes, more than `limits.classes`, or one that is no proper name.
    """
    distinct = set(labels)
    if len(distinct) < 2:
        raise InvalidInput(
            f"{where} holds a single class, {next(iter(distinct), '')[:40]!a}. A classifier needs at least two.",
            pointer="/file",
            code="single_class",
        )
    if len(distinct) > limits.classes:
        raise InvalidInput(
            f"{where} holds {len(distinct)} classes; at most {limits.classes} are taken. To predict a number, use the "
            "task tabular-regression.",
            pointer="/file",
        )
    for label in distinct:
        check_name(label, f"A label in {where}", limits)
    if all(_WHOLE.fullmatch(label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def encode(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The index of each label, int64 [N]."""
    index = {label: number for number, label in enumerate(classes)}
    return np.fromiter((index[label] for label in labels), np.int64, count=len(labels))


def check_name(name: str, what: str, limits: Limits) -> None:
    """A name that can be shown, stored and sent: not empty, printable, not too long."""
    if not name:
        raise InvalidInput(f"{what} is empty.", pointer="/file")
    if len(name) > limits.name_characters or not name.isprintable():
        shown = ascii(name[:40])
        raise InvalidInput(
            f"{what}, {shown}, is longer than {limits.name_characters} characters or not printable.",
            pointer="/file",
        )
