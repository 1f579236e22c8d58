"""The rows of a dataset as a model takes them, in their order."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from models.data.dataset import SPLITS, Dataset, DatasetDescription, Split
from models.errors import InvalidInput
from models.preparation import raw_batches
from models.preprocessing import TablePreprocessing
from models.scoring.alignment import Alignment
from models.scoring.spec import SplitChoice
from models.signature import Input, Signature, TableInput, TokenInput
from models.weights import ModelCard

BATCH, SMALL_BATCH = 256, 64
"""Rows computed together; fewer where each takes much memory on its way through a network."""
LARGE_VALUES = 64 * 64 * 3


@dataclass(frozen=True)
class Batch:
    """B rows of one split, from its row `first`. `x` as `Predictor.logits` takes them, `y` as the dataset has them."""

    split: str
    first: int
    x: np.ndarray
    y: np.ndarray


def names(split: SplitChoice) -> tuple[str, ...]:
    """The splits that are meant."""
    return SPLITS if split == "all" else (split,)


def count(split: SplitChoice, held: DatasetDescription) -> int:
    """How many rows that are."""
    return sum(getattr(held.splits, name) for name in names(split))


def check(taken: Signature, held: DatasetDescription) -> None:
    """Raise InvalidInput, naming the dataset, where the model cannot take its rows."""
    if taken.task != held.task:
        raise InvalidInput(
            f"The model does {taken.task}, and the dataset is one for {held.task}. Choose a dataset or a model of the"
            " other's task.",
            pointer="/dataset",
            code="task_mismatch",
        )
    if isinstance(taken.input, TableInput):
        _alignment(held, taken)


def batches(dataset: Dataset, split: SplitChoice, card: ModelCard, done: int) -> Iterator[Batch]:
    """All rows but the first `done`, at which a batch begins. Raises InvalidInput as `check` does.

    Where batches begin never changes: the last bits of an answer may depend on what is computed with it.
    """
    for name in names(split):
        rows: Split = getattr(dataset, name)
        first = min(done, len(rows))
        done -= first
        for x in _inputs(rows, card, dataset.description, first):
            yield Batch(name, first, x, rows.y[first : first + len(x)])
            first += len(x)


def _inputs(rows: Split, card: ModelCard, held: DatasetDescription, start: int) -> Iterator[np.ndarray]:
    about, size = card.preprocessing, batch_rows(card.signature.input)
    if not isinstance(about, TablePreprocessing):
        yield from raw_batches(rows, about, size, start)
        return
    aligned = _alignment(held, card.signature)
    for first in range(start, len(rows), size):
        yield about.features(aligned(rows.array[first : first + size]))


def batch_rows(taken: Input) -> int:
    """How many rows of this input are computed together."""
    is_large = isinstance(taken, TokenInput) or prod(taken.shape) > LARGE_VALUES
    return SMALL_BATCH if is_large else BATCH


def _alignment(held: DatasetDescription, taken: Signature) -> Alignment:
    assert isinstance(held.input, TableInput)
    assert isinstance(taken.input, TableInput)
    return Alignment(held.input, taken.input)
