"""Rows of named columns as numbers."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.columns import Column, width
from models.preprocessing.features import features
from models.preprocessing.normalisation import Normalisation, PositiveFloat
from models.preprocessing.row_items import row_batch
from models.preprocessing.typed_items import typed_batch
from models.signature import TableInput


class TablePreprocessing(BaseModel):
    """Rows of named columns; `fields` say what they hold, None that all hold numbers and none may be missing.

    `mean` and `std` are per feature: a column without `fields` is one, else see features.py. `target_mean` and
    `target_std` are for regression only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["table"] = "table"
    columns: tuple[str, ...] = Field(min_length=1)
    mean: tuple[FiniteFloat, ...]
    std: tuple[PositiveFloat, ...]
    target_mean: FiniteFloat | None = None
    target_std: PositiveFloat | None = None
    fields: tuple[Column, ...] | None = None

    @model_validator(mode="after")
    def _one_per_feature(self) -> Self:
        if self.fields is not None and tuple(field.name for field in self.fields) != self.columns:
            raise ValueError("fields must describe the columns in their order")
        if not len(self.mean) == len(self.std) == (width(self.fields) if self.fields else len(self.columns)):
            raise ValueError("mean and std need one number per feature")
        if (self.target_mean is None) != (self.target_std is None):
            raise ValueError("target_mean and target_std go together")
        return self

    def batch(self, items: Sequence[object]) -> np.ndarray:
        """Raw model input, float32 [B, F], from items of a request: lists of values or objects by column name.

        Raises:
            InvalidInput: with pointer `/inputs/<i>` or `/inputs/<i>/<column>`.
        """
        if self.fields is None:
            return row_batch(items, self.columns)
        return self.features(typed_batch(items, self.fields))

    def features(self, x_NC: np.ndarray) -> np.ndarray:
        """Raw model input, float32 [N, F], from rows as a dataset stores them, a number per column."""
        return x_NC if self.fields is None else features(x_NC, self.fields, np.array(self.mean, np.float32))

    @property
    def input(self) -> TableInput:
        """What the network takes."""
        return TableInput(features=len(self.mean), columns=self.columns, fields=self.fields)

    @property
    def normalisation(self) -> Normalisation:
        """In the units of the columns; what stands for categories and gaps is 0 or 1 and stays so."""
        return Normalisation(np.array(self.mean, np.float32), (1 / np.array(self.std)).astype(np.float32))

    def example(self) -> np.ndarray:
        """One valid raw item, float32 [F]: the mean row. Stack it for a warm-up batch."""
        return np.array(self.mean, np.float32)
