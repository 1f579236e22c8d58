"""What goes into a model and what comes out: the part of a dataset that an architecture must fit."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["image-classification", "text-classification", "tabular-classification", "tabular-regression"]


class ImageInput(BaseModel):
    """Raw pixels, uint8 [B, H, W, C], 0 to 255."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["image"] = "image"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one raw sample: (H, W, C)."""
        return (self.height, self.width, self.channels)

    def __str__(self) -> str:
        return f"{self.height}x{self.width} images with {self.channels} channel(s)"


class TableInput(BaseModel):
    """Rows of numbers, float32 [B, F], in the units of the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["table"] = "table"
    features: int = Field(ge=1)
    columns: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one raw sample: (F,)."""
        return (self.features,)

    def __str__(self) -> str:
        return f"rows of {self.features} number(s)"


Input = Annotated[ImageInput | TableInput, Field(discriminator="kind")]


class Signature(BaseModel):
    """The task, the input and the number of outputs: classes, or 1 for regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Task
    input: Input
    outputs: int = Field(ge=1)

    @property
    def is_regression(self) -> bool:
        return self.task == "tabular-regression"
