"""What a look at a dataset's samples has found, kept with its description."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Code = Literal["duplicates", "empty_class", "dominant_class", "constant_column", "small_split"]


class ClassCounts(BaseModel):
    """Samples of each class in each split, in the order of the classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


class DataWarning(BaseModel):
    """Something that makes a dataset's figures less worth than they look. `detail` is a sentence for a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    code: Code
    detail: str


class Report(BaseModel):
    """`class_counts` is None for regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    class_counts: ClassCounts | None
    warnings: tuple[DataWarning, ...] = Field(default=())
