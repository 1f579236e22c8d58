"""Which rows train, validate and test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.splits import divide, order, share
from models.errors import InvalidInput


def test_the_order_of_rows_is_fixed_for_ever():
    # These numbers are part of what a stored dataset's hash stands on. A change here changes every dataset.
    assert order(10).tolist() == ORDER_OF_TEN
    assert sorted(order(1000).tolist()) == list(range(1000))


ORDER_OF_TEN = [1, 7, 9, 3, 6, 0, 8, 2, 4, 5]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.floats(0.01, 0.9))
def test_every_row_is_in_one_split_and_every_class_trains(labels, fraction):
    groups = np.array(labels)
    try:
        rows = divide(groups, fraction)
    except InvalidInput as error:
        assert len(labels) - len(set(labels)) < 2
        assert "Add rows" in error.detail
        return
    parts = (rows.train, rows.validation, rows.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(len(part) > 0 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert set(groups[rows.train].tolist()) == set(labels)


@pytest.mark.parametrize("rows", [20, 57, 100, 1797, 60_000])
def test_splits_have_the_sizes_that_were_asked_for(rows):
    groups = order(rows) % 5
    found = divide(groups, 0.15)
    tests = int(rows * 0.15 + 0.5)
    assert len(found.test) == tests
    assert len(found.validation) == int((rows - tests) * 0.1 + 0.5)


def test_each_split_has_its_share_of_each_class():
    groups = np.repeat([0, 1, 2], [600, 300, 100])
    found = divide(groups, 0.2)
    assert np.bincount(groups[found.test]).tolist() == [120, 60, 20]
    assert np.bincount(groups[found.validation]).tolist() == [48, 24, 8]


def test_the_same_labels_are_always_divided_alike_and_rows_are_mixed():
    groups = np.zeros(1000, np.int64)
    first, second = divide(groups, 0.2), divide(groups, 0.2)
    assert np.array_equal(first.test, second.test)
    assert 300 < first.test.mean() < 700
    assert first.test.max() - first.test.min() > 900


def test_no_test_rows_are_taken_where_the_source_has_its_own():
    found = divide(np.zeros(50, np.int64), 0)
    assert (len(found.train), len(found.validation), len(found.test)) == (45, 5, 0)


def test_nothing_is_taken_where_the_source_has_both():
    found = divide(np.array([0, 1]), 0, 0)
    assert len(found.train) == 2


def test_a_class_of_one_row_stays_in_training():
    groups = np.array([0] * 30 + [1])
    assert 30 in divide(groups, 0.5).train


@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 1, 2, 3], [0, 1, 1]])
def test_too_few_rows_say_what_to_do(labels):
    with pytest.raises(InvalidInput, match="Add rows or merge") as caught:
        divide(np.array(labels), 0.15)
    assert caught.value.specific_code == "too_few_rows"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.data())
def test_shares_add_up_and_leave_a_row_of_each_class(counts, data):
    counts = np.array(counts)
    spare = int(np.maximum(counts - 1, 0).sum())
    total = data.draw(st.integers(0, spare))
    taken = share(counts, total)
    assert taken.sum() == total
    assert (taken >= 0).all()
    assert (taken <= np.maximum(counts - 1, 0)).all()
