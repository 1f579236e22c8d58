"""A look into a dataset."""

import base64
import io
from typing import Any, Literal, Self

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field

from app.schemas.paging import Answer
from models.columns import BooleanColumn, CategoricalColumn, Column
from models.data.dataset import Dataset as Samples
from models.data.dataset import Split, Splits
from models.data.inspection import report_of
from models.data.report import ClassCounts, DataWarning
from models.data.texts import Texts
from models.signature import ImageInput, Input, TableInput
from workers.datasets import DatasetRecord

SplitName = Literal["train", "validation", "test"]
MOST_BYTES = 4 << 20
"""Of raw samples in one preview. The first one is shown however large it is."""
LONGEST_TEXT = 2000
"""Characters of a text that are shown."""


class PreviewRow(Answer):
    """One sample."""

    input: dict[str, Any] = Field(
        description='As `POST /predict` takes it: `{"image": "<base64 of a PNG>"}`, `{"text": ...}`, or an object by'
        " column name."
    )
    label: str | None = Field(description="The class; null for regression.")
    value: float | None = Field(description="The number to predict; null for classification.")


class Preview(Answer):
    """The first samples of a split, and what a look at all of them has found."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "object": "dataset_preview",
                    "name": "iris",
                    "splits": {"train": 105, "validation": 22, "test": 23},
                    "classes": ["setosa", "versicolor", "virginica"],
                    "class_counts": {"train": [35, 35, 35], "validation": [7, 8, 7], "test": [8, 7, 8]},
                    "warnings": [
                        {
                            "code": "small_split",
                            "detail": "The test split has 23 sample(s): what is measured on it is mostly chance.",
                        }
                    ],
                    "split": "train",
                    "rows": [
                        {"input": {"petal_length": 1.4, "petal_width": 0.2}, "label": "setosa", "value": None}
                    ],
                }
            ]
        }
    )
    id: str
    object: Literal["dataset_preview"] = "dataset_preview"
    name: str
    splits: Splits = Field(description="Samples in each split.")
    classes: tuple[str, ...] | None
    class_counts: ClassCounts | None = Field(
        description="Samples of each class in each split, in the order of the classes; null for regression."
    )
    warnings: tuple[DataWarning, ...] = Field(
        description="What makes the dataset's figures less worth than they look."
    )
    split: SplitName = Field(description="Where the samples are from.")
    rows: tuple[PreviewRow, ...]

    @classmethod
    def of(cls, record: DatasetRecord, samples: Samples, split: SplitName, limit: int) -> Self:
        part: Split = getattr(samples, split)
        shown = min(limit, len(part), max(1, MOST_BYTES // _bytes_of(part, 0)))
        about = record.description
        report = about.report or samples.description.report or report_of(samples)
        return cls(
            id=record.id,
            name=record.name,
            splits=about.splits,
            classes=about.classes,
            class_counts=report.class_counts,
            warnings=report.warnings,
            split=split,
            rows=tuple(_row(samples, part, index) for index in range(shown)),
        )


def _bytes_of(part: Split, index: int) -> int:
    return (
        min(int(part.x.sizes[index]), 4 * LONGEST_TEXT) if isinstance(part.x, Texts) else part.x[index].nbytes
    )


def _row(samples: Samples, part: Split, index: int) -> PreviewRow:
    about, y = samples.description, part.y[index]
    found = _input(about.input, part, index)
    if about.classes is None:
        return PreviewRow(input=found, label=None, value=_number(y))
    return PreviewRow(input=found, label=about.classes[int(y)], value=None)


def _input(about: Input, part: Split, index: int) -> dict[str, Any]:
    """The sample as `POST /predict` takes it."""
    if isinstance(part.x, Texts):
        text = part.x[index]
        return {"text": text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}\u2026"}
    x = part.x[index]
    if isinstance(about, ImageInput):
        return {"image": base64.b64encode(_png(x)).decode("ascii")}
    assert isinstance(about, TableInput)
    if about.fields is None:
        return dict(zip(about.columns, map(_number, x), strict=True))
    return {field.name: _value(field, value) for field, value in zip(about.fields, x, strict=True)}


def _value(field: Column, value: np.generic) -> str | float | bool | None:
    """A stored value of a column as its sender wrote it."""
    if np.isnan(value):
        return None
    match field:
        case CategoricalColumn():
            return (*field.categories, *field.unseen)[int(value)]
        case BooleanColumn():
            return bool(value)
    return _number(value)


def _png(pixels_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC).save(file, format="PNG")
    return file.getvalue()


def _number(value: np.generic) -> float:
    """With the digits that a float32 has: 5.1, not 5.099999904632568."""
    return float(str(value))
