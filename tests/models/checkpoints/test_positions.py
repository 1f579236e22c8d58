"""Position embeddings at another size, against torchvision's own interpolation."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from models.checkpoints.positions import interpolated, is_grid

SIDES = [(14, 24), (14, 7), (4, 5), (7, 14), (3, 2), (2, 9), (5, 1), (1, 4), (6, 6)]


def embeddings(side, channels=6):
    return np.random.default_rng(side).normal(0, 1, (1, 1 + side * side, channels)).astype(np.float32)


@pytest.mark.parametrize(("old", "new"), SIDES)
def test_positions_are_interpolated_as_torchvision_does_it(old, new):
    there = embeddings(old)
    state = OrderedDict({"encoder.pos_embedding": torch.tensor(there)})
    expected = interpolate_embeddings(4 * new, 4, state)["encoder.pos_embedding"].numpy()
    found = interpolated(there, 1 + new * new)
    assert (found.dtype, found.shape) == (there.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), SIDES)
def test_the_class_token_keeps_its_position(old, new):
    there = embeddings(old)
    assert np.array_equal(interpolated(there, 1 + new * new)[:, 0], there[:, 0])


def test_the_same_size_changes_nothing():
    np.testing.assert_array_equal(interpolated(embeddings(5), 26), embeddings(5))


def test_corners_stay_corners_and_a_plane_stays_a_plane():
    row, column = np.mgrid[0:5, 0:5] / 4
    plane = (2 * row - column).reshape(1, 25, 1)
    found = interpolated(np.concatenate([np.zeros((1, 1, 1)), plane], 1), 1 + 81)[0, 1:, 0].reshape(9, 9)
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, [0, -1, 2, 1], atol=1e-12)
    row, column = np.mgrid[0:9, 0:9] / 8
    # Beside the border the kernel reaches beyond it, where the edge is repeated.
    np.testing.assert_allclose(found[2:-2, 2:-2], (2 * row - column)[2:-2, 2:-2], atol=1e-12)


def test_a_grid_is_a_class_token_and_a_square():
    assert [tokens for tokens in range(20) if is_grid(tokens)] == [2, 5, 10, 17]
    assert is_grid(197)


@pytest.mark.parametrize(("old", "new"), [(12, 26), (26, 12), (1, 26), (26, 1)])
def test_what_is_no_square_is_not_interpolated(old, new):
    with pytest.raises(ValueError, match="not a class token and a square"):
        interpolated(np.zeros((1, old, 3), np.float32), new)
