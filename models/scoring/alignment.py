"""The rows of one table in the columns of another.

Shape suffixes: N rows, C columns.
"""

import numpy as np

from models.columns import CategoricalColumn, Column, NumericColumn
from models.errors import InvalidInput, suggest
from models.signature import TableInput


class Alignment:
    """Puts stored rows of a dataset into the columns that a model takes, in their order and with their categories.

    Raises:
        InvalidInput: the dataset has other columns than the model.
    """

    def __init__(self, held: TableInput, taken: TableInput) -> None:
        there, here = _columns(held), _columns(taken)
        self._is_same = there == here
        places = {column.name: place for place, column in enumerate(there)}
        _check_names(set(places), {column.name for column in here})
        for column in here:
            _check(there[places[column.name]], column)
        self._sources = [
            (places[column.name], _categories(there[places[column.name]], column)) for column in here
        ]

    def __call__(self, x_NC: np.ndarray) -> np.ndarray:
        """float32 [N, C], each in its own table's columns."""
        if self._is_same:
            return x_NC
        columns = [
            x_NC[:, place] if categories is None else _translated(x_NC[:, place], categories)
            for place, categories in self._sources
        ]
        return np.stack(columns, axis=1).astype(np.float32, copy=False)


def _columns(table: TableInput) -> tuple[Column, ...]:
    return table.fields or tuple(NumericColumn(name=name) for name in table.columns)


def _check_names(held: set[str], taken: set[str]) -> None:
    if unknown := sorted(held - taken):
        raise _mismatch(
            f"The dataset's column {unknown[0]!r} is not one of the model's."
            f" {suggest(unknown[0], taken - held or taken)}"
        )
    if missing := sorted(taken - held):
        raise _mismatch(f"The dataset lacks the model's column {missing[0]!r}.")


def _check(held: Column, taken: Column) -> None:
    if held.kind != taken.kind:
        raise _mismatch(
            f"Column {taken.name!r} is {held.kind} in the dataset and {taken.kind} in what the model was trained on."
            " Upload the dataset with 'columns' that say so."
        )
    if taken.missing == "refused" and held.missing != "refused":
        raise _mismatch(
            f"Column {taken.name!r} has missing values in the dataset, and no row that the model was trained on lacks"
            " it. Fill them in."
        )


def _categories(held: Column, taken: Column) -> np.ndarray | None:
    """For each category of the one column its place in the other; where that has none, the place after its last."""
    if not isinstance(held, CategoricalColumn) or not isinstance(taken, CategoricalColumn):
        return None
    places = {name: place for place, name in enumerate(taken.categories)}
    names = (*held.categories, *held.unseen)
    return np.array([places.get(name, len(places)) for name in names], np.float32)


def _translated(values_N: np.ndarray, categories: np.ndarray) -> np.ndarray:
    missing_N = np.isnan(values_N)
    found: np.ndarray = categories[np.where(missing_N, 0, values_N).astype(np.int64)]
    found[missing_N] = np.nan
    return found


def _mismatch(detail: str) -> InvalidInput:
    return InvalidInput(detail, pointer="/dataset", code="columns_mismatch")
