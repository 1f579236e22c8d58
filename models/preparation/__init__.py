"""From a dataset as it is stored to what one network takes: the part of preprocessing that a job decides.

A stored dataset belongs to no network. Texts become tokens here, by the tokenizer that the network's options ask for
or that its first weights came with; images get the size and normalisation that the job asks for.
"""

from pathlib import Path

from models.data.dataset import Dataset, DatasetDescription
from models.job import JobSpec
from models.preparation.text import prepared_texts
from models.preprocessing import Preprocessing
from models.signature import Signature, TextInput

__all__ = ["expected_signature", "prepared"]


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
        case _:
            return dataset


def expected_signature(description: DatasetDescription, job: JobSpec) -> Signature:
    """The signature of the prepared dataset, as far as it is known beforehand: texts stay texts.

    Raises:
        InvalidInput: the job's options do not fit the dataset.
    """
    return description.signature
