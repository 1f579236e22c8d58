"""The seeded batch plan: which rows, crops and flips every step sees, in both frameworks alike.

An epoch's draws come from a counter-based generator keyed by (seed, epoch), so any epoch can be made at any
time: a run that was interrupted in mid-epoch continues exactly.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.noise import step_keys


@dataclass(frozen=True)
class Segment:
    """S consecutive steps of B samples.

    indices: int32 [S, B], rows of the training split. learning_rates: float64 [S]. noise: int32 [S], the steps'
    keys for dropout (see `models.noise`).
    flips: bool [S, B], mirror left to right. offsets: int32 [S, B, 2], top and left corner of the crop in the
    zero-padded image. Both None where the job does not augment so. widths: int32 [S], to how many tokens each
    step's samples are cut; None but for texts.
    """

    indices: np.ndarray
    learning_rates: np.ndarray
    noise: np.ndarray
    flips: np.ndarray | None = None
    offsets: np.ndarray | None = None
    widths: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return int(self.indices.shape[0])

    def part(self, start: int, stop: int) -> "Segment":
        """Steps start to stop of this segment."""
        return Segment(
            self.indices[start:stop],
            self.learning_rates[start:stop],
            self.noise[start:stop],
            None if self.flips is None else self.flips[start:stop],
            None if self.offsets is None else self.offsets[start:stop],
            None if self.widths is None else self.widths[start:stop],
        )


def crop_padding(height: int) -> int:
    """Zero pixels added on each side before a random crop: 4 at 32 pixels, as He et al. 2015 use on CIFAR."""
    return max(1, height // 8)


def width_of(tokens: int, longest: int) -> int:
    """The number of tokens that a batch is padded to, so that few widths have to be compiled: the next of 8, 12, 16,
    24, 32, 48, 64, ..., but no more than `longest`."""
    width = 8
    while width < tokens and width < longest:
        width = width * 3 // 2 if width.bit_count() == 1 else width // 3 * 4
    return min(width, longest)


POOL = 50
"""Batches whose rows are sorted by length together: near lengths meet, and what meets still changes by epoch."""


class Plan:
    """Batches for a training split of `rows` rows.

    The last, smaller batch of an epoch is left out (each epoch leaves out other rows): BatchNorm cannot take
    a batch of one, and one shape means one compilation.
    """

    def __init__(
        self,
        *,
        seed: int,
        rows: int,
        batch_size: int,
        learning_rates: np.ndarray,
        augment: Collection[str] = (),
        crop_range: int = 0,
        lengths: np.ndarray | None = None,
        longest: int = 0,
    ) -> None:
        """`lengths`, int32 [rows]: tokens of every row, and `longest`, the most that a row may have."""
        self.seed = seed
        self.rows = rows
        self.batch_size = batch_size
        self.steps_per_epoch = rows // batch_size
        self._learning_rates = learning_rates
        self._flip = "flip" in augment
        self._crop_range = crop_range if "crop" in augment else 0
        self._lengths, self._longest = lengths, longest
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def segment(self, start: int, stop: int) -> Segment:
        """Steps start to stop (counted over the whole run); they lie in one epoch."""
        epoch, first = divmod(start, self.steps_per_epoch)
        last = first + (stop - start)
        if last > self.steps_per_epoch:
            raise ValueError(f"steps {start} to {stop} span two epochs")
        order, flips, offsets, widths = self._epoch(epoch)
        return Segment(
            order[first:last],
            self._learning_rates[start:stop],
            step_keys(self.seed, start, stop),
            None if flips is None else flips[first:last],
            None if offsets is None else offsets[first:last],
            None if widths is None else widths[first:last],
        )

    def indices(self, start: int, stop: int) -> np.ndarray:
        """The rows of these steps of one epoch alone, int32 [S, B]."""
        epoch, first = divmod(start, self.steps_per_epoch)
        return self._epoch(epoch)[0][first : first + stop - start]

    def _draw_epoch(
        self, epoch: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        generator = np.random.Generator(np.random.Philox(key=(self.seed << 64) | epoch))
        batches = (self.steps_per_epoch, self.batch_size)
        used = self.steps_per_epoch * self.batch_size
        order = generator.permutation(self.rows)[:used].astype(np.int32).reshape(batches)
        widths = None
        if self._lengths is not None:
            order = self._alike(order, self._lengths)[generator.permutation(self.steps_per_epoch)]
            longest = self._lengths[order].max(axis=1)
            widths = np.array([width_of(int(tokens), self._longest) for tokens in longest], np.int32)
        flips = generator.random(batches) < 0.5 if self._flip else None
        offsets = (
            generator.integers(0, self._crop_range, (*batches, 2), dtype=np.int32)
            if self._crop_range
            else None
        )
        return order, flips, offsets, widths

    def _alike(self, order: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The same rows, int32 [S, B], in batches of similar lengths."""
        pools = [pool.ravel() for pool in np.split(order, range(POOL, len(order), POOL))]
        return np.concatenate(
            [pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, self.batch_size) for pool in pools]
        )
