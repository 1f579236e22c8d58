"""Rows of named columns as numbers."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.preprocessing.normalisation import Normalisation, PositiveFloat
from models.preprocessing.row_items import row_batch


class TablePreprocessing(BaseModel):
    """Rows of named columns. `mean` and `std` per column; `target_mean` and `target_std` for regression only."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["table"] = "table"
    columns: tuple[str, ...] = Field(min_length=1)
    mean: tuple[FiniteFloat, ...]
    std: tuple[PositiveFloat, ...]
    target_mean: FiniteFloat | None = None
    target_std: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_per_column(self) -> Self:
        if not len(self.mean) == len(self.std) == len(self.columns):
            raise ValueError("mean and std need one number per column")
        if (self.target_mean is None) != (self.target_std is None):
            raise ValueError("target_mean and target_std go together")
        return self

    def batch(self, items: Sequence[object]) -> np.ndarray:
        """Raw model input, float32 [B, F], from items of a request: lists of numbers or objects by column name.

        Raises:
            InvalidInput: with pointer `/inputs/<i>` or `/inputs/<i>/<column>`.
        """
        return row_batch(items, self.columns)

    @property
    def normalisation(self) -> Normalisation:
        """In the units of the columns."""
        return Normalisation(np.array(self.mean, np.float32), (1 / np.array(self.std)).astype(np.float32))

    def example(self) -> np.ndarray:
        """One valid raw item, float32 [F]: the mean row. Stack it for a warm-up batch."""
        return np.array(self.mean, np.float32)
