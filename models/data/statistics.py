"""Means and standard deviations of a training split, in float64, a chunk of rows at a time."""

from collections.abc import Iterator

import numpy as np

from models.columns import Column
from models.preprocessing import SMALLEST_STD, ImagePreprocessing, TablePreprocessing
from models.preprocessing.features import spread

_CHUNK_VALUES = 1 << 22


def image_preprocessing(x_NHWC: np.ndarray) -> ImagePreprocessing:
    """Statistics per channel of uint8 pixels scaled to 0..1. A constant channel gets a deviation of 1."""
    _, height, width, channels = x_NHWC.shape
    # Counting each of the 256 values needs no wider copy of the pixels, and whole numbers add up exactly.
    counts = np.zeros((channels, 256), np.int64)
    for chunk in _chunks(x_NHWC):
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    weights = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, np.newaxis]) ** 2).sum(axis=1))
    constant = np.count_nonzero(counts, axis=1) == 1
    return ImagePreprocessing(
        height=height,
        width=width,
        channels=channels,
        mean=tuple(mean.tolist()),
        std=tuple(np.where(constant, 1.0, std).tolist()),
    )


def table_preprocessing(
    x_NC: np.ndarray, columns: tuple[str, ...], fields: tuple[Column, ...] | None, target: np.ndarray | None
) -> TablePreprocessing:
    """Statistics of what each column's rows have; `target` float32 [N] for regression, else None.

    Features that stand for categories and gaps stay 0 and 1: scaled to a deviation of 1, a rare category would
    outweigh everything else.
    """
    mean, std = (found.tolist() for found in column_statistics(x_NC))
    target_mean, target_std = (None, None) if target is None else column_statistics(target[:, np.newaxis])
    return TablePreprocessing(
        columns=columns,
        fields=fields,
        mean=tuple(mean if fields is None else spread(mean, fields, 0.0)),
        std=tuple(std if fields is None else spread(std, fields, 1.0)),
        target_mean=None if target_mean is None else float(target_mean[0]),
        target_std=None if target_std is None else float(target_std[0]),
    )


def column_statistics(x_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation per column of the values that are not NaN, float64 [C].

    A constant column gets a deviation of 1, and one of NaN only a mean of 0.
    """
    rows = np.maximum(_sum(~np.isnan(chunk) for chunk in _chunks(x_NC)), 1)
    mean = _sum(_filled(chunk, 0.0) for chunk in _chunks(x_NC)) / rows
    squares = _sum((_filled(chunk, mean) - mean) ** 2 for chunk in _chunks(x_NC))
    std = np.sqrt(squares / rows)
    # Rounding in the mean leaves a constant column a deviation that is tiny but not 0, so compare its values.
    constant = np.fmin.reduce(x_NC) == np.fmax.reduce(x_NC)
    return mean, np.where(constant | (std < SMALLEST_STD), 1.0, std)


def _filled(chunk: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """As float64, with `value` for what is missing."""
    return np.where(np.isnan(chunk), value, chunk.astype(np.float64))


def _sum(chunks: Iterator[np.ndarray]) -> np.ndarray:
    total = next(chunks).sum(axis=0)
    for chunk in chunks:
        total += chunk.sum(axis=0)
    return np.asarray(total)


def _chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _CHUNK_VALUES // max(1, x[0].size))
    for start in range(0, len(x), rows):
        yield x[start : start + rows]
