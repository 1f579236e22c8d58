"""Datasets."""

from datetime import datetime
from typing import Literal, Self

from pydantic import ConfigDict, Field

from app.schemas.paging import Answer
from models.data.dataset import Splits
from models.data.report import ClassCounts, DataWarning
from models.signature import Input, Task
from workers.datasets import DatasetRecord


class Dataset(Answer):
    """A dataset. `sha256` and `size_bytes` are null for a built-in one that no job has used yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "object": "dataset",
                    "name": "iris",
                    "task": "tabular-classification",
                    "sha256": "9f86d081884c7d65" * 4,
                    "splits": {"train": 105, "validation": 22, "test": 23},
                    "classes": ["setosa", "versicolor", "virginica"],
                    "target": "species",
                    "input": {
                        "kind": "table",
                        "features": 4,
                        "columns": ["sepal_length", "sepal_width", "petal_length", "petal_width"],
                    },
                    "class_counts": {"train": [35, 35, 35], "validation": [7, 8, 7], "test": [8, 7, 8]},
                    "warnings": [
                        {
                            "code": "small_split",
                            "detail": "The test split has 23 sample(s): what is measured on it is mostly chance.",
                        }
                    ],
                    "size_bytes": 4120,
                    "builtin": False,
                    "created_at": "2026-01-05T09:30:00Z",
                }
            ]
        }
    )
    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    task: Task
    sha256: str | None
    splits: Splits
    classes: tuple[str, ...] | None
    target: str | None
    input: Input
    class_counts: ClassCounts | None = Field(
        description="Samples of each class in each split, in the order of the classes; null for regression, and for a"
        " built-in dataset that no job has used yet."
    )
    warnings: tuple[DataWarning, ...] = Field(
        description="What makes the dataset's figures less worth than they look."
    )
    size_bytes: int | None
    builtin: bool
    created_at: datetime

    @classmethod
    def of(cls, record: DatasetRecord) -> Self:
        about = record.description
        return cls(
            id=record.id,
            name=record.name,
            task=about.task,
            sha256=record.sha256,
            splits=about.splits,
            classes=about.classes,
            target=about.target,
            input=about.input,
            class_counts=about.report.class_counts if about.report else None,
            warnings=about.report.warnings if about.report else (),
            size_bytes=record.size_bytes,
            builtin=record.builtin,
            created_at=record.created_at,
        )


class DeletedDataset(Answer):
    """What is gone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "ds_01jd8zq4m3v6x9n2k5t7w0y1ab", "object": "dataset", "name": "iris", "deleted": True}
            ]
        }
    )
    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    deleted: Literal[True] = True
