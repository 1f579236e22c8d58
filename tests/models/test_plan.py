import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.plan import Plan, crop_padding


def plan(seed=0, rows=100, batch_size=8, total=60, augment=(), crop_range=0):
    return Plan(
        seed=seed,
        rows=rows,
        batch_size=batch_size,
        learning_rates=np.linspace(1, 0, total),
        augment=augment,
        crop_range=crop_range,
    )


@given(st.integers(0, 2**63 - 1), st.integers(1, 300), st.data())
def test_an_epoch_visits_no_row_twice(seed, rows, data):
    batch_size = data.draw(st.integers(1, rows))
    epoch = plan(seed, rows, batch_size, total=rows).segment(0, rows // batch_size)
    visited = epoch.indices.ravel()
    assert len(set(visited.tolist())) == len(visited) == rows // batch_size * batch_size
    assert visited.min() >= 0
    assert visited.max() < rows


def test_epochs_differ_and_leave_out_different_rows():
    made = plan()
    first, second = made.segment(0, 12).indices, made.segment(12, 24).indices
    assert not np.array_equal(first, second)
    assert set(first.ravel()) != set(second.ravel())


def test_a_segment_is_the_same_however_the_run_is_cut():
    whole = plan(augment=("flip", "crop"), crop_range=5).segment(12, 24)
    late = plan(augment=("flip", "crop"), crop_range=5).segment(17, 21)
    part = whole.part(5, 9)
    for name in ("indices", "learning_rates", "flips", "offsets"):
        assert np.array_equal(getattr(part, name), getattr(late, name))


def test_seeds_give_different_orders_and_augmentation_does_not_change_the_order():
    assert not np.array_equal(plan(seed=0).segment(0, 12).indices, plan(seed=1).segment(0, 12).indices)
    augmented = plan(augment=("flip", "crop"), crop_range=9)
    assert np.array_equal(plan().segment(0, 12).indices, augmented.segment(0, 12).indices)


def test_flips_and_offsets_are_drawn_evenly_over_their_range():
    drawn = plan(rows=8000, augment=("flip", "crop"), crop_range=9, total=1000).segment(0, 1000)
    assert drawn.flips is not None
    assert drawn.offsets is not None
    assert 0.47 < drawn.flips.mean() < 0.53
    assert set(np.unique(drawn.offsets)) == set(range(9))
    assert drawn.offsets.shape == (1000, 8, 2)


def test_a_segment_over_two_epochs_is_refused():
    with pytest.raises(ValueError, match="two epochs"):
        plan().segment(10, 14)


def test_the_crop_padding_is_four_pixels_at_32():
    assert [crop_padding(height) for height in (8, 28, 32, 64, 224)] == [1, 3, 4, 8, 28]
