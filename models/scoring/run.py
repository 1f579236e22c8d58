"""Scoring: batches in, rows out, in parts that last."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa

from models.data.dataset import Dataset
from models.engine import Predictor
from models.errors import InvalidInput, OutOfMemory
from models.metrics import Metrics
from models.scoring import files
from models.scoring.parts import Parts
from models.scoring.rows import Answers
from models.scoring.samples import batches
from models.scoring.spec import ScoringSpec
from models.weights import ModelCard

MOST_GROUP_ROWS, LEAST_GROUP_ROWS = 8192, 256
GROUP_VALUES = 1 << 20
"""About how many numbers a row group of the result holds."""
PART_GROUPS = 4
"""A part holds at most so many row groups: it is in memory until it is written."""


class Run:
    """Scores the rows that `parts` does not hold yet, and keeps them there."""

    def __init__(
        self,
        predictor: Predictor,
        card: ModelCard,
        dataset: Dataset,
        spec: ScoringSpec,
        parts: Parts,
        *,
        part_every_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """A part is written when the one before is `part_every_s` old."""
        self._predictor, self._card, self._dataset, self._spec = predictor, card, dataset, spec
        self._parts, self._part_every_s, self._clock = parts, part_every_s, clock
        self._answers = Answers(card, dataset.description, spec)
        self._tally = parts.tally
        self._waiting: list[pa.Table] = []
        self._saved = clock()
        self.group_rows = group_rows(card)
        self.rows = parts.rows
        """Scored so far."""

    def batches(self) -> Iterator[int]:
        """Score, a batch at each step; gives the rows of the batch. Raises OutOfMemory."""
        for batch in batches(self._dataset, self._spec.split, self._card, self.rows):
            logits = self._logits(batch.x)
            table, self._tally = self._answers.add(self._tally, batch, logits)
            self._waiting.append(table)
            self.rows += len(batch.x)
            if self._is_due():
                self.save()
            yield len(batch.x)
        self.save()

    def save(self) -> None:
        """Keep for good what was scored so far."""
        if self._waiting:
            self._parts.add(pa.concat_tables(self._waiting), self._tally)
        self._waiting = []
        self._saved = self._clock()

    def write(self, path: Path) -> Metrics:
        """Write the result to a file, once all rows are scored; how well the model did.

        Raises InvalidInput where it has no answer to any of them.
        """
        if 0 < self.rows == self._tally.unanswered:
            raise InvalidInput(
                f"The model's answer to each of the {self.rows} rows is not a finite number: its weights are broken, or"
                " the rows lie too far from what it was trained on.",
                code="not_finite",
            )
        files.write(self._parts.paths, self._answers.schema, path, self._spec.format, self.group_rows)
        return self._tally.metrics(regression=self._card.signature.is_regression)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        try:
            return self._predictor.logits(x)
        except OutOfMemory:  # it advises a smaller batch_size, which nobody can choose here
            raise OutOfMemory(
                f"The device has too little memory for {len(x)} rows of this model at once. Let a worker on a larger"
                " device predict."
            ) from None

    def _is_due(self) -> bool:
        rows = sum(table.num_rows for table in self._waiting)
        return rows >= PART_GROUPS * self.group_rows or self._clock() - self._saved > self._part_every_s


def group_rows(card: ModelCard) -> int:
    """Rows of a row group: fewer where a row has the numbers of many classes."""
    return max(LEAST_GROUP_ROWS, min(MOST_GROUP_ROWS, GROUP_VALUES // card.signature.outputs))
