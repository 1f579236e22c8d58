"""A look into a dataset."""

import base64
import io
from typing import Any, Literal, Self

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field

from app.schemas.paging import Answer
from models.data.dataset import Dataset as Samples
from models.data.dataset import Split
from models.signature import ImageInput, TableInput
from workers.datasets import DatasetRecord

SplitName = Literal["train", "validation", "test"]
MOST_BYTES = 4 << 20
"""Of raw samples in one preview. The first one is shown however large it is."""


class PreviewRow(Answer):
    """One sample."""

    input: dict[str, Any] = Field(
        description='As `POST /predict` takes it: `{"image": "<base64 of a PNG>"}`, or an object by column name.'
    )
    label: str | None = Field(description="The class; null for regression.")
    value: float | None = Field(description="The number to predict; null for classification.")


class Preview(Answer):
    """The first samples of a split."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "object": "dataset_preview",
                    "name": "iris",
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
    split: SplitName
    rows: tuple[PreviewRow, ...]

    @classmethod
    def of(cls, record: DatasetRecord, samples: Samples, split: SplitName, limit: int) -> Self:
        part: Split = getattr(samples, split)
        shown = min(limit, len(part), max(1, MOST_BYTES // part.x[0].nbytes))
        rows = (_row(samples, part.x[index], part.y[index]) for index in range(shown))
        return cls(id=record.id, name=record.name, split=split, rows=tuple(rows))


def _row(samples: Samples, x: np.ndarray, y: np.generic) -> PreviewRow:
    """`x`: uint8 [H, W, C] or float32 [F]; `y`: int64 or float32."""
    about = samples.description
    if isinstance(about.input, ImageInput):
        found: dict[str, Any] = {"image": base64.b64encode(_png(x)).decode("ascii")}
    else:
        assert isinstance(about.input, TableInput)
        found = dict(zip(about.input.columns, map(_number, x), strict=True))
    if about.classes is None:
        return PreviewRow(input=found, label=None, value=_number(y))
    return PreviewRow(input=found, label=about.classes[int(y)], value=None)


def _png(pixels_HWC: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC).save(file, format="PNG")
    return file.getvalue()


def _number(value: np.generic) -> float:
    """With the digits that a float32 has: 5.1, not 5.099999904632568."""
    return float(str(value))
