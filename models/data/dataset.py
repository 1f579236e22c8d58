"""A dataset as training sees it: three splits of arrays, their description, and the one file they are kept in."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.data import mapped, scratch
from models.data.report import Report
from models.data.texts import Texts
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
    """N samples. `x`: uint8 [N, H, W, C], float32 [N, F], N texts, or their token ids, int32 [N, T], once a job has
    prepared them. `y`: int64 [N], or float32 [N] in the target's units."""

    x: np.ndarray | Texts
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    @property
    def array(self) -> np.ndarray:
        """`x` of a split that does not hold plain texts."""
        assert isinstance(self.x, np.ndarray)
        return self.x

    @property
    def texts(self) -> Texts:
        """`x` of a split that holds plain texts."""
        assert isinstance(self.x, Texts)
        return self.x

    def take(self, rows: np.ndarray, folder: Path | None = None) -> "Split":
        """These rows. Where that is a large array and a folder is given, they lie in a nameless file there."""
        x = self.x[rows] if isinstance(self.x, Texts) else scratch.take(self.x, rows, folder)
        return Split(x, self.y[rows])


@dataclass(frozen=True)
class Dataset:
    """The splits, what they are, and the preprocessing fitted on the training split.

    Plain texts have no preprocessing: a job chooses their tokenizer.
    """

    description: DatasetDescription
    preprocessing: Preprocessing | None
    train: Split
    validation: Split
    test: Split


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    description: DatasetDescription
    preprocessing: Preprocessing | None


_FORMAT = 1
_KEY = "tandem"  # one key only: safetensors writes several in no fixed order, and equal data must give equal bytes


def write(dataset: Dataset, path: Path) -> None:
    """Store the dataset as one safetensors file: `train.x`, `train.y`, ... Equal datasets give equal bytes.

    Texts are two tensors, `train.x.bytes` and `train.x.offsets`.

    Raises:
        InvalidInput: its names are too long to be kept.
    """
    metadata = _Metadata(format=_FORMAT, description=dataset.description, preprocessing=dataset.preprocessing)
    tensors: dict[str, np.ndarray] = {}
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        tensors[f"{name}.y"] = split.y
        if isinstance(split.x, Texts):
            tensors |= {f"{name}.x.bytes": split.x.data, f"{name}.x.offsets": split.x.offsets}
        else:
            tensors[f"{name}.x"] = split.x
    text = json.dumps(
        metadata.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    mapped.write(path, {_KEY: text}, tensors)


def read(path: Path) -> Dataset:
    """The dataset stored by `write`, memory-mapped: samples are read from the file when they are used.

    Raises:
        CorruptArtifact: the file is missing, damaged, or not a dataset.
    """
    metadata, tensors = mapped.read(path)
    try:
        found = _Metadata.model_validate_json(metadata[_KEY])
        plain = found.description.input.kind == "text"
        splits = {name: _split(tensors, name, plain) for name in SPLITS}
    except (KeyError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise CorruptArtifact("The file is not a dataset that this version can read.") from error
    if found.format != _FORMAT or tensors or plain != (found.preprocessing is None):
        raise CorruptArtifact("The file is a dataset of another version.")
    for name, split in splits.items():
        _check(split, getattr(found.description.splits, name), found.description)
    return Dataset(found.description, found.preprocessing, **splits)


def _split(tensors: dict[str, np.ndarray], name: str, plain: bool) -> Split:
    """One split out of the tensors of a file. Raises KeyError, or ValueError for texts that are none."""
    y = tensors.pop(f"{name}.y")
    if plain:
        return Split(Texts(tensors.pop(f"{name}.x.bytes"), tensors.pop(f"{name}.x.offsets")), y)
    return Split(tensors.pop(f"{name}.x"), y)


def _check(split: Split, size: int, description: DatasetDescription) -> None:
    """Shapes, dtypes and labels are those that the description promises."""
    y_dtype = "float32" if description.classes is None else "int64"
    if not _fits(split.x, size, description):
        raise CorruptArtifact("The dataset's samples do not fit its description.")
    if (split.y.dtype.name, split.y.shape) != (y_dtype, (size,)):
        raise CorruptArtifact("The dataset's labels do not fit its description.")
    if description.classes is None:
        return
    if split.y.min() < 0 or split.y.max() >= len(description.classes):
        raise CorruptArtifact("The dataset holds labels outside its classes.")


def _fits(x: np.ndarray | Texts, size: int, description: DatasetDescription) -> bool:
    if isinstance(x, Texts):
        return len(x) == size
    dtype = "uint8" if description.input.kind == "image" else "float32"
    return (x.dtype.name, x.shape) == (dtype, (size, *description.sample_shape))
