"""Dropout's random numbers: a hash of seed, step, place in the network and place in the tensor.

Both frameworks compute it on the device with the same whole-number operations, so that training with dropout is the
same in both, at whatever step it is resumed. A generator of either framework could give neither.

All numbers are int32 and wrap around; `>>` keeps the sign. An element `i` (its place in the row-major tensor) is
kept where `scrambled(i * SPREAD + key) >= threshold(rate)`, with `key = mixed(step_key ^ site_key(name))`. Here it is
in NumPy; the frameworks' own are `models.frameworks.<framework>.noise`.

The constants are those of Chris Wellons' integer hash `lowbias32` (https://nullprogram.com/blog/2018/07/31/) and, for
SPREAD, 2^32 divided by the golden ratio.
"""

from zlib import crc32

import numpy as np


def signed(value: int) -> int:
    """The int32 with the low 32 bits of a whole number."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


SPREAD = signed(0x9E3779B9)
FIRST = signed(0x7FEB352D)
SECOND = signed(0x846CA68B)
SHIFT = 15


def scrambled(h: np.ndarray) -> np.ndarray:
    """int32 of any shape -> int32, each bit depending on all bits."""
    h = h ^ (h >> SHIFT)
    h = h * np.int32(FIRST)
    h = h ^ (h >> SHIFT)
    return np.asarray(h * np.int32(SECOND))


def mixed(key: np.ndarray) -> np.ndarray:
    """A key whose neighbours are far from its own neighbours' keys."""
    h = scrambled(key)
    return np.asarray(h ^ (h >> SHIFT))


def step_keys(seed: int, start: int, stop: int) -> np.ndarray:
    """One key for every step from start to stop, int32 [S]."""
    words = np.array([seed >> 32, seed], dtype=np.uint64).astype(np.uint32).view(np.int32)
    base = mixed(words[1:] ^ mixed(words[:1]))
    steps = np.arange(start, stop, dtype=np.int64).astype(np.int32)
    return mixed(steps * np.int32(SPREAD) + base)


def site_key(name: str) -> int:
    """An int32 for a module by its name in the network, e.g. 'classifier.2'."""
    return signed(crc32(name.encode()))


def threshold(rate: float) -> int:
    """The int32 below which a share `rate` of all int32 lies."""
    return round(rate * (1 << 32)) - (1 << 31)


def kept(step_key: int, name: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """Which elements of a tensor dropout keeps at a step, bool of this shape: the reference for both frameworks."""
    key = mixed(np.array([step_key], np.int32) ^ np.int32(site_key(name)))
    elements = np.arange(int(np.prod(shape)), dtype=np.int64).astype(np.int32)
    return (scrambled(elements * np.int32(SPREAD) + key) >= threshold(rate)).reshape(shape)
