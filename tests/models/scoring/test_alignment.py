"""Rows of one table in the columns of another."""

import numpy as np
import pytest

from models.columns import BooleanColumn, CategoricalColumn, NumericColumn, width
from models.errors import InvalidInput
from models.scoring.alignment import Alignment
from models.signature import TableInput


def table(*fields):
    return TableInput(features=width(fields), columns=tuple(field.name for field in fields), fields=fields)


SIZE, OLD = NumericColumn(name="size", missing="flagged"), BooleanColumn(name="old")
COLOUR = CategoricalColumn(name="colour", categories=("red", "blue"), unseen=("grey",), missing="filled")
NAN = float("nan")


def test_columns_are_found_by_name_and_categories_too():
    colour = CategoricalColumn(name="colour", categories=("blue", "green"), unseen=("red",), missing="filled")
    rows = np.array([[0, 1, 2.5], [1, 0, NAN], [2, 1, 0], [NAN, 0, 1]], np.float32)
    aligned = Alignment(table(colour, OLD, SIZE), table(SIZE, COLOUR, OLD))(rows)
    assert aligned.dtype == np.float32
    # Green is none of the model's categories: the place after them, where an unknown one is.
    expected = np.array([[2.5, 1, 1], [NAN, 2, 0], [0, 0, 1], [1, NAN, 0]], np.float32)
    np.testing.assert_array_equal(aligned, expected)


def test_equal_tables_need_no_copy():
    rows = np.zeros((2, 3), np.float32)
    assert Alignment(table(SIZE, COLOUR, OLD), table(SIZE, COLOUR, OLD))(rows) is rows


def test_plain_numbers_are_numeric_columns():
    plain = TableInput(features=2, columns=("b", "a"))
    rows = np.array([[1, 2]], np.float32)
    typed = table(NumericColumn(name="a"), NumericColumn(name="b"))
    np.testing.assert_array_equal(Alignment(plain, typed)(rows), [[2, 1]])


@pytest.mark.parametrize(
    ("held", "taken", "hint"),
    [
        ((SIZE, OLD), (SIZE,), "'old' is not one of the model's"),
        ((SIZE,), (SIZE, OLD), "lacks the model's column 'old'"),
        ((NumericColumn(name="sise"),), (SIZE,), "Did you mean 'size'"),
        ((NumericColumn(name="old"),), (OLD,), "'old' is numeric in the dataset and boolean"),
        ((SIZE,), (NumericColumn(name="size"),), "'size' has missing values"),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_the_column_named(held, taken, hint):
    with pytest.raises(InvalidInput, match=hint) as refused:
        Alignment(table(*held), table(*taken))
    assert refused.value.pointer == "/dataset"
