"""3x3 convolutions at stride 1 with fewer multiplications, for networks that only predict, on CPUs.

A tile of the output is the inverse transform of products of the transformed input and the transformed kernel. A tile
of 4x4 pixels takes 36 multiplications a pair of channels where the plain way takes 144, one of 2x2 16 and not 36; the
transforms add a few sums for each channel. In float32 the larger tile loses one decimal digit (1e-5 of the largest
output, measured), so nothing here is for reduced precision.

Source: Lavin & Gray 2015, https://arxiv.org/abs/1509.09308; B, G, A are that paper's.

Shape suffixes: H height, W width, I inputs, O outputs, P points of a transformed tile.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

SIZE = 3
"""Of the kernel, in pixels a side."""
SMALLEST = 3
"""Maps with fewer pixels a side are mostly padding, which the plain way leaves out."""
LARGEST_BYTES = 32 << 20
"""Of an image's transformed tiles: what does not fit into the last cache takes longer than the plain way."""
BATCH = 4
"""Images that are computed together, when tiles are compared."""
MOVED = 25
"""Multiplications in the time of one number that is transformed. It and `FETCHED` were fitted to measurements of layers
from 32 to 512 channels in XLA, on an AMD EPYC with AVX-512."""
FETCHED = 13
"""Multiplications in the time in which a weight comes from memory."""


class Transform(NamedTuple):
    """Of tiles of `tile` output pixels a side, which see `points` = tile + 2 input pixels a side.

    BT: [points, points], G: [points, 3], AT: [tile, points]; a tile of the output is
    AT @ ((G @ kernel @ G.T) * (BT @ input @ BT.T)) @ AT.T, summed over the input's channels in between.
    """

    tile: int
    BT: np.ndarray
    G: np.ndarray
    AT: np.ndarray

    @property
    def points(self) -> int:
        return len(self.BT)


_TWO = Transform(
    2,
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)
_FOUR = Transform(
    4,
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
)
TRANSFORMS: Mapping[int, Transform] = {one.tile: one for one in (_TWO, _FOUR)}


def best_tile(inputs: int, outputs: int, height: int, width: int) -> int | None:
    """The tile with which a convolution over maps of this size takes least time; None where the plain way does."""
    if min(height, width) < SMALLEST:
        return None
    layer = (inputs, outputs, height, width)
    plain = SIZE * SIZE * inputs * outputs * (BATCH * height * width + FETCHED)
    times = {
        tile: _time(transform, *layer)
        for tile, transform in TRANSFORMS.items()
        if transformed_bytes(*layer, tile) <= LARGEST_BYTES
    }
    return min((tile for tile in times if times[tile] < plain), key=lambda tile: times[tile], default=None)


def _time(transform: Transform, inputs: int, outputs: int, height: int, width: int) -> int:
    """In multiplications, of `BATCH` images."""
    tiles = BATCH * tiles_along(height, transform.tile) * tiles_along(width, transform.tile)
    products = inputs * outputs * (tiles + FETCHED)
    return transform.points**2 * (products + MOVED * tiles * (inputs + outputs))


def tiles_along(side: int, tile: int) -> int:
    """How many tiles cover so many pixels."""
    return -(-side // tile)


def transformed_bytes(inputs: int, outputs: int, height: int, width: int, tile: int) -> int:
    """Of an image in float32, before and after the products."""
    tiles = tiles_along(height, tile) * tiles_along(width, tile)
    return 4 * TRANSFORMS[tile].points ** 2 * tiles * (inputs + outputs)


def transformed(kernel_HWIO: np.ndarray, tile: int) -> np.ndarray:
    """G @ kernel @ G.T for each pair of channels: [3, 3, I, O] -> [P, I, O], P row by row; of the kernel's dtype."""
    G = TRANSFORMS[tile].G
    found: np.ndarray = np.kron(G, G) @ kernel_HWIO.reshape(SIZE * SIZE, -1).astype(np.float64)
    return found.astype(kernel_HWIO.dtype).reshape(-1, *kernel_HWIO.shape[2:])
