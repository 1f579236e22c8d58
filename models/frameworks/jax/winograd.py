"""Winograd's convolutions in XLA, which fuses the transforms: see `models.winograd`.

Shape suffixes: B batch, H height, W width, I inputs, O outputs, P points of a transformed tile, T tiles.
"""

from math import gcd

import jax
import jax.numpy as jnp
import numpy as np

from models.winograd import TRANSFORMS, Transform, tiles_along, transformed_bytes

AT_A_TIME_BYTES = 8 << 20
"""Of the transformed tiles of some images: what does not fit into the last cache takes up to four times as long."""


def convolve(x_BHWI: jax.Array, kernel_PIO: jax.Array, tile: int) -> jax.Array:
    """3x3, stride 1, zero-padded by 1: [B, H, W, I] -> [B, H, W, O]. The kernel is `models.winograd.transformed`."""
    batch, height, width, inputs = x_BHWI.shape
    image_bytes = transformed_bytes(inputs, kernel_PIO.shape[-1], height, width, tile)
    images = gcd(batch, 1 << (max(1, AT_A_TIME_BYTES // image_bytes).bit_length() - 1))
    if images == batch:
        return _convolved(x_BHWI, kernel_PIO, TRANSFORMS[tile])
    pieces = x_BHWI.reshape(-1, images, height, width, inputs)
    found: jax.Array = jax.lax.map(lambda piece: _convolved(piece, kernel_PIO, TRANSFORMS[tile]), pieces)
    return found.reshape(batch, height, width, -1)


def _convolved(x_BHWI: jax.Array, kernel_PIO: jax.Array, transform: Transform) -> jax.Array:
    batch, height, width, inputs = x_BHWI.shape
    tile, points = transform.tile, transform.points
    rows, columns = tiles_along(height, tile), tiles_along(width, tile)
    margins = ((0, 0), (1, 1 + rows * tile - height), (1, 1 + columns * tile - width), (0, 0))
    padded = jnp.pad(x_BHWI, margins)
    # Each step writes an array: fused into one, they would compute the sums of lines anew for every column, and take
    # four times as long to compile.
    lines = _sums(transform.BT, [padded[:, i : i + rows * tile : tile] for i in range(points)])
    data = _sums(transform.BT, [lines[:, :, :, i : i + columns * tile : tile] for i in range(points)], axis=1)
    data_PTI = data.reshape(points * points, -1, inputs)
    products_PTO = jnp.einsum("pti,pio->pto", data_PTI, kernel_PIO)
    products = products_PTO.reshape(points, points, batch, rows, columns, -1)
    lines = _sums(transform.AT, list(products))
    pixels = _sums(transform.AT, [lines[:, i] for i in range(points)], axis=1)
    y_BHWO = pixels.transpose(2, 3, 0, 4, 1, 5).reshape(batch, rows * tile, columns * tile, -1)
    return y_BHWO[:, :height, :width]


def _sums(matrix: np.ndarray, parts: list[jax.Array], axis: int = 0) -> jax.Array:
    """The matrix times the parts, on a new axis; most of its numbers are 0."""
    found = []
    for row in matrix.tolist():
        terms = [factor * part for factor, part in zip(row, parts, strict=True) if factor]
        found.append(sum(terms[1:], start=terms[0]))
    return jnp.stack(found, axis)
