"""What the columns of a table turn out to hold once it is known which rows train.

Shape suffixes: N rows, C columns.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from models.columns import CategoricalColumn, Column, Missing, NumericColumn, width
from models.errors import InvalidInput

MOST_FEATURES = 8192
MOST_CHARACTERS = 200_000
"""In the names of all categories: they stand in the header of the dataset's file and of every model's."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def fitted(x_NC: np.ndarray, train: np.ndarray, fields: Sequence[Column]) -> tuple[Column, ...] | None:
    """The columns, with the categories and the gaps that the training rows have; None if all are numbers without gaps.

    Categories are numbered anew, in place: first those of training rows, then the others, each in order.

    Raises:
        InvalidInput: there are too many categories in all.
    """
    found = tuple(_fitted(x_NC[:, place], train, field) for place, field in enumerate(fields))
    _check_size(found)
    plain = all(isinstance(field, NumericColumn) and field.missing == "refused" for field in found)
    return None if plain else found


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted: by value when all are whole numbers, else as texts."""
    names = list(names)
    if all(map(_WHOLE.fullmatch, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _fitted(values_N: np.ndarray, train: np.ndarray, field: Column) -> Column:
    gaps_N = np.isnan(values_N)
    missing: Missing = "flagged" if gaps_N[train].any() else "filled" if gaps_N.any() else "refused"
    if not isinstance(field, CategoricalColumn):
        return field.model_copy(update={"missing": missing})
    seen = set(np.unique(values_N[train][~gaps_N[train]]).astype(int).tolist())
    trained = in_order(name for place, name in enumerate(field.categories) if place in seen)
    unseen = in_order(name for place, name in enumerate(field.categories) if place not in seen)
    places = {name: place for place, name in enumerate((*trained, *unseen))}
    renumbered = np.array([places[name] for name in field.categories], np.float32)
    values_N[~gaps_N] = renumbered[values_N[~gaps_N].astype(np.int64)]
    return CategoricalColumn(name=field.name, missing=missing, categories=trained, unseen=unseen)


def _check_size(fields: tuple[Column, ...]) -> None:
    letters = sum(
        len(name) for field in fields if isinstance(field, CategoricalColumn) for name in field.categories
    )
    if width(fields) <= MOST_FEATURES and letters <= MOST_CHARACTERS:
        return
    widest = sorted(fields, key=lambda field: -field.width)[:3]
    listed = ", ".join(f"{field.name!r} ({field.width})" for field in widest)
    raise InvalidInput(
        f"The columns become {width(fields)} numbers and their categories have {letters} letters; at most "
        f"{MOST_FEATURES} and {MOST_CHARACTERS} are taken. The widest are {listed}. Leave columns out with columns="
        '{"<name>": "ignore"}.',
        pointer="/columns",
    )
