"""The rows of a dataset as a model takes them, in their order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.data.dataset import SPLITS, Dataset, DatasetDescription, Split
from models.errors import InvalidInput
from models.preparation import raw_batches
from models.preprocessing import TablePreprocessing
from models.scoring.alignment import Alignment
from models.scoring.spec import SplitChoice
from models.signature import Signature, TableInput
from models.weights import ModelCard

BATCH = 256
"""Where batches begin never changes: the last bits of an answer may depend on what is computed with it."""


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
    """All rows but the first `done`, a multiple of BATCH within its split. Raises InvalidInput as `check` does."""
    for name in names(split):
        rows: Split = getattr(dataset, name)
        first = min(done, len(rows))
        done -= first
        for x in _inputs(rows, card, dataset.description, first):
            yield Batch(name, first, x, rows.y[first : first + len(x)])
            first += len(x)


def _inputs(rows: Split, card: ModelCard, held: DatasetDescription, start: int) -> Iterator[np.ndarray]:
    about = card.preprocessing
    if not isinstance(about, TablePreprocessing):
        yield from raw_batches(rows, about, BATCH, start)
        return
    aligned = _alignment(held, card.signature)
    for first in range(start, len(rows), BATCH):
        yield about.features(aligned(rows.array[first : first + BATCH]))


def _alignment(held: DatasetDescription, taken: Signature) -> Alignment:
    assert isinstance(held.input, TableInput)
    assert isinstance(taken.input, TableInput)
    return Alignment(held.input, taken.input)
