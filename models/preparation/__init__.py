"""From a dataset as it is stored to what one network takes: the part of preprocessing that a job decides.

A stored dataset belongs to no network. Texts become tokens here, by the tokenizer that the network's options ask for
or that its first weights came with; images get the size and normalisation that the job asks for; columns of a table
become numbers.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.data.dataset import Dataset, DatasetDescription, Split
from models.job import JobSpec
from models.preparation.image import image_batch, prepared_images, resized_input
from models.preparation.table import prepared_rows
from models.preparation.text import prepared_texts, refuse_image_options, token_batches
from models.preprocessing import ImagePreprocessing, Preprocessing, TablePreprocessing, TextPreprocessing
from models.signature import ImageInput, Signature, TableInput, TextInput

__all__ = ["expected_signature", "prepared", "raw_batches"]


def prepared(dataset: Dataset, job: JobSpec, known: Preprocessing | None, folder: Path) -> Dataset:
    """The dataset with samples, input and preprocessing as the job's network takes them.

    `known` is the preprocessing of the weights that the job starts from or resumes, None from scratch. What needs
    much room is written to `folder` and memory-mapped.

    Raises:
        InvalidInput: the job's options do not fit the dataset.
    """
    match dataset.description.input:
        case TextInput():
            return prepared_texts(dataset, job, known, folder)
        case ImageInput():
            return prepared_images(dataset, job.preprocess, known, folder)
        case TableInput():
            refuse_image_options(job.preprocess, "rows of a table")
            return prepared_rows(dataset, folder)
        case _:
            return dataset


def raw_batches(
    split: Split, preprocessing: Preprocessing, size: int, start: int = 0
) -> Iterator[np.ndarray]:
    """The rows of a stored split from `start` in their order, as a model with this preprocessing takes them, `size` at
    a time."""
    for first in range(start, len(split), size):
        rows = slice(first, first + size)
        match preprocessing:
            case TextPreprocessing():
                yield from token_batches(split.texts[rows], preprocessing)
            case ImagePreprocessing():
                yield image_batch(split.array[rows], preprocessing)
            case TablePreprocessing():
                yield preprocessing.features(split.array[rows])


def expected_signature(description: DatasetDescription, job: JobSpec) -> Signature:
    """The signature of the prepared dataset, as far as it is known beforehand: texts stay texts.

    Raises:
        InvalidInput: the job's options do not fit the dataset.
    """
    signature = description.signature
    match description.input:
        case ImageInput():
            return signature.model_copy(update={"input": resized_input(description, job.preprocess)})
        case TableInput():
            refuse_image_options(job.preprocess, "rows of a table")
        case TextInput():
            refuse_image_options(job.preprocess, "texts")
    return signature
