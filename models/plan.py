"""The seeded batch plan: which rows, crops and flips every step sees, in both frameworks alike.

An epoch's draws come from a counter-based generator keyed by (seed, epoch), so any epoch can be made at any
time: a run that was interrupted in mid-epoch continues exactly.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Segment:
    """S consecutive steps of B samples.

    indices: int32 [S, B], rows of the training split. learning_rates: float64 [S].
    flips: bool [S, B], mirror left to right. offsets: int32 [S, B, 2], top and left corner of the crop in the
    zero-padded image. Both None where the job does not augment so.
    """

    indices: np.ndarray
    learning_rates: np.ndarray
    flips: np.ndarray | None = None
    offsets: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return int(self.indices.shape[0])

    def part(self, start: int, stop: int) -> "Segment":
        """Steps start to stop of this segment."""
        return Segment(
            self.indices[start:stop],
            self.learning_rates[start:stop],
            None if self.flips is None else self.flips[start:stop],
            None if self.offsets is None else self.offsets[start:stop],
        )


def crop_padding(height: int) -> int:
    """Zero pixels added on each side before a random crop: 4 at 32 pixels, as He et al. 2015 use on CIFAR."""
    return max(1, height // 8)


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
    ) -> None:
        self.seed = seed
        self.rows = rows
        self.batch_size = batch_size
        self.steps_per_epoch = rows // batch_size
        self._learning_rates = learning_rates
        self._flip = "flip" in augment
        self._crop_range = crop_range if "crop" in augment else 0
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def segment(self, start: int, stop: int) -> Segment:
        """Steps start to stop (counted over the whole run); they lie in one epoch."""
        epoch, first = divmod(start, self.steps_per_epoch)
        last = first + (stop - start)
        if last > self.steps_per_epoch:
            raise ValueError(f"steps {start} to {stop} span two epochs")
        order, flips, offsets = self._epoch(epoch)
        return Segment(
            order[first:last],
            self._learning_rates[start:stop],
            None if flips is None else flips[first:last],
            None if offsets is None else offsets[first:last],
        )

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        generator = np.random.Generator(np.random.Philox(key=(self.seed << 64) | epoch))
        batches = (self.steps_per_epoch, self.batch_size)
        used = self.steps_per_epoch * self.batch_size
        order = generator.permutation(self.rows)[:used].astype(np.int32).reshape(batches)
        flips = generator.random(batches) < 0.5 if self._flip else None
        offsets = (
            generator.integers(0, self._crop_range, (*batches, 2), dtype=np.int32)
            if self._crop_range
            else None
        )
        return order, flips, offsets
