"""Rows of a table as the numbers that a network takes.

Shape suffixes: N rows, C columns, F features.
"""

from math import prod
from pathlib import Path

import numpy as np

from models.data.dataset import Dataset, Split
from models.data.scratch import LARGE_BYTES, ScratchRows, chunks
from models.preprocessing import TablePreprocessing
from models.signature import TableInput


def prepared_rows(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with its columns as features, which `models.preprocessing.features` explains."""
    taken, preprocessing = dataset.description.input, dataset.preprocessing
    assert isinstance(taken, TableInput)
    assert isinstance(preprocessing, TablePreprocessing)
    if taken.fields is None:
        return dataset
    train, validation, test = (
        _expanded(split, preprocessing, taken.features, folder)
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    return Dataset(dataset.description, preprocessing, train, validation, test)


def _expanded(split: Split, preprocessing: TablePreprocessing, features: int, folder: Path) -> Split:
    """The split's rows as features, in a nameless file in `folder` where that takes much room."""
    shape = (len(split), features)
    if 4 * prod(shape) <= LARGE_BYTES:
        return Split(preprocessing.features(split.array), split.y)
    with ScratchRows(folder, len(split), (features,), np.dtype(np.float32)) as rows:
        start = 0
        for chunk_NC in chunks(split.array):
            rows.write(start, preprocessing.features(chunk_NC))
            start += len(chunk_NC)
        return Split(rows.array(), split.y)
