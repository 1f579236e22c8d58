"""What lies between a client's input and a model's: decoding, resizing, column order, normalisation.

Fitted on the training split, stored with the dataset and with every model trained on it, and applied by us, so that
no client repeats it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.image_items import image_batch
from models.row_items import row_batch
from models.signature import ImageInput

# Anything smaller has no finite inverse in float32.
SMALLEST_STD = 1e-30
PositiveFloat = Annotated[float, Field(ge=SMALLEST_STD, allow_inf_nan=False)]


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) * inverse_std takes raw input to what the network sees. Both float32: [C] or [F]."""

    mean: np.ndarray
    inverse_std: np.ndarray


class ImagePreprocessing(BaseModel):
    """Raw pixels of one size. `mean` and `std` per channel, of pixels scaled to 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["image"] = "image"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: Literal[1, 3]
    mean: tuple[FiniteFloat, ...]
    std: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one number per channel")
        return self

    def batch(self, items: Sequence[object]) -> np.ndarray:
        """Raw model input, uint8 [B, H, W, C], from items of a request: `{"image": base64}`, the bytes of an encoded
        image, or nested pixels [H][W] or [H][W][C] from 0 to 255. Other sizes are resized.

        Raises:
            InvalidInput: with pointer `/inputs/<i>`.
        """
        return image_batch(items, ImageInput(height=self.height, width=self.width, channels=self.channels))

    @property
    def normalisation(self) -> Normalisation:
        """In units of raw pixels, 0..255."""
        mean, std = np.array(self.mean) * 255, np.array(self.std) * 255
        return Normalisation(mean.astype(np.float32), (1 / std).astype(np.float32))

    def example(self) -> np.ndarray:
        """One valid raw item, uint8 [H, W, C]: a black image. Stack it for a warm-up batch."""
        return np.zeros((self.height, self.width, self.channels), np.uint8)


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


Preprocessing = Annotated[ImagePreprocessing | TablePreprocessing, Field(discriminator="kind")]
