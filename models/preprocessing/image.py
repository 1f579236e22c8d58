"""Images of any size and kind as pixels of one size."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from models.preprocessing.image_items import image_batch
from models.preprocessing.normalisation import Normalisation, PositiveFloat
from models.preprocessing.options import Resize
from models.signature import ImageInput


class ImagePreprocessing(BaseModel):
    """Raw pixels of one size. `mean` and `std` per channel, of pixels scaled to 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["image"] = "image"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: Literal[1, 3]
    mean: tuple[FiniteFloat, ...]
    std: tuple[PositiveFloat, ...]
    resize: Resize = "stretch"

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one number per channel")
        return self

    def batch(self, items: Sequence[object]) -> np.ndarray:
        """Raw model input, uint8 [B, H, W, C], from items of a request: `{"image": base64}`, the bytes of an encoded
        image, or nested pixels [H][W] or [H][W][C] from 0 to 255. Other sizes are resized as `resize` says.

        Raises:
            InvalidInput: with pointer `/inputs/<i>`.
        """
        return image_batch(items, self.input, self.resize)

    @property
    def input(self) -> ImageInput:
        """What the network takes."""
        return ImageInput(height=self.height, width=self.width, channels=self.channels)

    @property
    def normalisation(self) -> Normalisation:
        """In units of raw pixels, 0..255."""
        mean, std = np.array(self.mean) * 255, np.array(self.std) * 255
        return Normalisation(mean.astype(np.float32), (1 / std).astype(np.float32))

    def example(self) -> np.ndarray:
        """One valid raw item, uint8 [H, W, C]: a black image. Stack it for a warm-up batch."""
        return np.zeros((self.height, self.width, self.channels), np.uint8)
