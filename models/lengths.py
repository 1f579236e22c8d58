"""How many tokens samples have, and batches without the padding that none of their samples needs."""

from collections.abc import Iterator

import numpy as np

from models.plan import width_of
from models.signature import Input, TokenInput

CHUNK = 65_536
"""Rows looked at together: what is worked out for them must fit into memory where the rows themselves do not."""


def lengths(ids_NT: np.ndarray, padding: int) -> np.ndarray:
    """How many tokens each sample has, int32 [N]: those before the padding at its end."""
    starts = range(0, max(1, len(ids_NT)), CHUNK)
    return np.concatenate([_last(ids_NT[start : start + CHUNK] != padding) for start in starts])


def narrowed(ids_BT: np.ndarray, taken: TokenInput) -> np.ndarray:
    """The same samples without the columns that are padding in all of them, but for those up to a usual width."""
    longest = int(lengths(ids_BT, taken.padding).max(initial=0))
    return ids_BT[:, : width_of(longest, taken.length)]


def batches(x: np.ndarray, size: int, taken: Input) -> Iterator[np.ndarray]:
    """A split's samples in order, `size` at a time and the rest at last; texts cut to their longest."""
    for start in range(0, len(x), size):
        batch = x[start : start + size]
        yield narrowed(batch, taken) if isinstance(taken, TokenInput) else batch


def widened(ids_BT: np.ndarray, taken: TokenInput) -> np.ndarray:
    """The same samples, filled up with padding to the next usual width."""
    missing = width_of(ids_BT.shape[1], taken.length) - ids_BT.shape[1]
    return np.pad(ids_BT, ((0, 0), (0, max(0, missing))), constant_values=taken.padding)


def _last(used_NT: np.ndarray) -> np.ndarray:
    """One more than the last True of every row; 0 where there is none."""
    after_N = used_NT.shape[1] - used_NT[:, ::-1].argmax(1)
    return np.where(used_NT.any(1), after_N, 0).astype(np.int32)
