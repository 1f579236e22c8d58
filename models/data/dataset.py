"""A dataset as training sees it: three splits of arrays, their description, and the one file they are kept in."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.numpy import save_file

from models.data import mapped
from models.data.report import Report
from models.errors import CorruptArtifact
from models.preprocessing import Preprocessing
from models.signature import Input, Signature, Task

SPLITS = ("train", "validation", "test")


class Splits(BaseModel):
    """Number of samples in each split; none is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: int = Field(ge=1)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)


class DatasetDescription(BaseModel):
    """All that is known of a dataset without its samples.

    `classes` are the names in the order of their indices, None for regression. `target` is the name of the column
    to predict, where the source has names. `report` is None for a built-in set that nobody has read yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Task
    input: Input
    classes: tuple[str, ...] | None
    splits: Splits
    target: str | None = None
    report: Report | None = None

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        if (self.classes is None) != (self.task == "tabular-regression"):
            raise ValueError("classes are for classification, and needed there")
        return self

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one stored sample. A table keeps the client's columns, and is turned into features by the job:
        a category is stored as one number, and not as one for each category."""
        if self.input.kind == "table" and self.input.fields is not None:
            return (len(self.input.fields),)
        return self.input.shape

    @property
    def signature(self) -> Signature:
        return Signature(task=self.task, input=self.input, outputs=len(self.classes) if self.classes else 1)


@dataclass(frozen=True)
class Split:
    """N samples. `x`: uint8 [N, H, W, C] or float32 [N, F]. `y`: int64 [N], or float32 [N] in the target's units."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """The splits, what they are, and the preprocessing fitted on the training split."""

    description: DatasetDescription
    preprocessing: Preprocessing
    train: Split
    validation: Split
    test: Split


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    description: DatasetDescription
    preprocessing: Preprocessing


_FORMAT = 1
_KEY = "tandem"  # one key only: safetensors writes several in no fixed order, and equal data must give equal bytes


def write(dataset: Dataset, path: Path) -> None:
    """Store the dataset as one safetensors file: `train.x`, `train.y`, ... Equal datasets give equal bytes."""
    metadata = _Metadata(format=_FORMAT, description=dataset.description, preprocessing=dataset.preprocessing)
    tensors = {
        f"{name}.{part}": np.ascontiguousarray(getattr(getattr(dataset, name), part))
        for name in SPLITS
        for part in ("x", "y")
    }
    text = json.dumps(metadata.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    save_file(tensors, path, {_KEY: text})


def read(path: Path) -> Dataset:
    """The dataset stored by `write`, memory-mapped: samples are read from the file when they are used.

    Raises:
        CorruptArtifact: the file is missing, damaged, or not a dataset.
    """
    metadata, tensors = mapped.read(path)
    try:
        found = _Metadata.model_validate_json(metadata[_KEY])
        splits = {name: Split(tensors.pop(f"{name}.x"), tensors.pop(f"{name}.y")) for name in SPLITS}
    except (KeyError, ValidationError) as error:
        raise CorruptArtifact("The file is not a dataset that this version can read.") from error
    if found.format != _FORMAT or tensors:
        raise CorruptArtifact("The file is a dataset of another version.")
    for name, split in splits.items():
        _check(split, getattr(found.description.splits, name), found.description)
    return Dataset(found.description, found.preprocessing, **splits)


def _check(split: Split, size: int, description: DatasetDescription) -> None:
    """Shapes, dtypes and labels are those that the description promises."""
    x_dtype = "uint8" if description.input.kind == "image" else "float32"
    y_dtype = "float32" if description.classes is None else "int64"
    if (split.x.dtype.name, split.x.shape) != (x_dtype, (size, *description.sample_shape)):
        raise CorruptArtifact("The dataset's samples do not fit its description.")
    if (split.y.dtype.name, split.y.shape) != (y_dtype, (size,)):
        raise CorruptArtifact("The dataset's labels do not fit its description.")
    if description.classes is None:
        return
    if split.y.min() < 0 or split.y.max() >= len(description.classes):
        raise CorruptArtifact("The dataset holds labels outside its classes.")
