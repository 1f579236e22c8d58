import numpy as np
import pytest

from models import lengths as module
from models.lengths import batches, lengths, narrowed, widened
from models.plan import Plan, width_of
from models.signature import ImageInput, TokenInput

TAKEN = TokenInput(vocabulary=9, length=50, padding=3)


def texts(*counts, padding=3, length=50):
    """Texts of so many tokens."""
    ids = np.full((len(counts), length), padding, np.int32)
    for row, count in zip(ids, counts, strict=True):
        row[:count] = 5
    return ids


def test_a_text_is_as_long_as_what_stands_before_the_padding_at_its_end(monkeypatch):
    ids = texts(1, 50, 0, 17)
    ids[3, 4] = 3  # padding inside is no end
    expected = [1, 50, 0, 17]
    assert lengths(ids, 3).tolist() == expected
    assert lengths(ids, 3).dtype == np.int32
    monkeypatch.setattr(module, "CHUNK", 3)
    assert lengths(ids, 3).tolist() == expected
    assert lengths(ids[:0], 3).tolist() == []


@pytest.mark.parametrize(
    ("tokens", "width"), [(1, 8), (8, 8), (9, 12), (13, 16), (17, 24), (33, 48), (50, 50)]
)
def test_a_batch_is_as_wide_as_its_longest_text_needs(tokens, width):
    ids = texts(1, tokens)
    assert np.array_equal(narrowed(ids, TAKEN), ids[:, :width])
    assert np.array_equal(widened(ids[:, :tokens], TAKEN), ids[:, :width])


def test_batches_come_in_order_and_only_texts_are_cut():
    ids = texts(2, 5, 12, 20, 50)
    found = list(batches(ids, 2, TAKEN))
    assert [batch.shape for batch in found] == [(2, 8), (2, 24), (1, 50)]
    for batch, rows in zip(found, (ids[:2], ids[2:4], ids[4:]), strict=True):
        assert np.array_equal(batch, rows[:, : batch.shape[1]])
        assert (rows[:, batch.shape[1] :] == TAKEN.padding).all()
    images = np.zeros((3, 4, 4, 1), np.uint8)
    cut = list(batches(images, 2, ImageInput(height=4, width=4, channels=1)))
    assert [batch.shape for batch in cut] == [(2, 4, 4, 1), (1, 4, 4, 1)]


def test_batches_of_a_plan_hold_texts_of_similar_lengths_and_are_cut_to_the_longest():
    counts = np.random.default_rng(0).integers(1, 401, 1000).astype(np.int32)
    plan = Plan(seed=1, rows=1000, batch_size=10, learning_rates=np.ones(200), lengths=counts, longest=400)
    first, second = plan.segment(0, 100), plan.segment(100, 200)
    for epoch in (first, second):
        assert len(np.unique(epoch.indices)) == 1000
        assert epoch.widths.tolist() == [width_of(int(counts[rows].max()), 400) for rows in epoch.indices]
    padded = first.widths.sum() * 10 / counts.sum()
    assert padded < 1.4
    assert width_of(400, 400) * 1000 / counts.sum() > 1.9  # what it would be without
    assert not np.array_equal(first.indices, second.indices)
    assert len(set(first.widths[:8])) > 2  # short and long texts alternate
    part = first.part(7, 9)
    assert np.array_equal(part.widths, plan.segment(7, 9).widths)
