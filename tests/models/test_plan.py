import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.plan import Plan, crop_padding, width_of


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


LENGTHS = np.random.default_rng(0).integers(1, 65, 400).astype(np.int32)


def of_texts(seed=0):
    rates = np.zeros(200)
    return Plan(seed=seed, rows=400, batch_size=8, learning_rates=rates, lengths=LENGTHS, longest=64)


def test_texts_of_similar_length_meet_in_batches():
    epoch = of_texts().segment(0, 50)
    assert sorted(epoch.indices.ravel().tolist()) == list(range(400))
    found = LENGTHS[epoch.indices]
    assert (found.max(1) <= epoch.widths).all()
    spread = (found.max(1) - found.min(1)).mean()
    unsorted = LENGTHS.reshape(-1, 8)
    assert spread < (unsorted.max(1) - unsorted.min(1)).mean() / 4
    assert found.sum() / (epoch.widths.sum() * 8) > 0.7  # how much of what is computed is no padding


def test_the_lengths_of_batches_have_no_order_and_change_by_epoch():
    first, second = of_texts().segment(0, 50), of_texts().segment(50, 100)
    assert abs(np.corrcoef(np.arange(50), first.widths)[0, 1]) < 0.5
    batches = [{frozenset(batch) for batch in epoch.indices.tolist()} for epoch in (first, second)]
    assert len(batches[0] & batches[1]) < 5


def test_a_part_of_a_segment_has_its_widths_and_keys():
    whole = of_texts().segment(0, 20)
    part = whole.part(5, 9)
    assert np.array_equal(part.widths, whole.widths[5:9])
    assert np.array_equal(part.noise, whole.noise[5:9])
    again = of_texts().segment(5, 9)
    assert np.array_equal(again.indices, part.indices)
    assert np.array_equal(again.noise, part.noise)


@given(st.integers(1, 600), st.integers(1, 600))
def test_a_width_holds_the_tokens_and_little_more(tokens, longest):
    tokens = min(tokens, longest)
    width = width_of(tokens, longest)
    assert tokens <= width <= max(8, longest)
    assert width <= max(8, tokens * 1.5)
