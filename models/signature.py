"""What goes into a model and what comes out: the part of a dataset that an architecture must fit."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.columns import Column, width

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
    """Rows of numbers, float32 [B, F], in the units of the dataset. `columns` are named as a client names them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["table"] = "table"
    features: int = Field(ge=1, description="Numbers that the network takes; a category is one each.")
    columns: tuple[str, ...] = Field(description="Names of the values of a row, in their order.")
    fields: tuple[Column, ...] | None = Field(
        default=None, description="What each column holds; null: all hold numbers, and none may be missing."
    )

    @model_validator(mode="after")
    def _fields_describe_the_columns(self) -> Self:
        if self.fields is None:
            return self
        if tuple(field.name for field in self.fields) != self.columns or width(self.fields) != self.features:
            raise ValueError("fields must describe the columns in their order, and give the features")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one raw sample: (F,)."""
        return (self.features,)

    def __str__(self) -> str:
        return f"rows of {self.features} number(s)"


class TextInput(BaseModel):
    """Plain texts, as a dataset holds them: no network takes these before they are tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["text"] = "text"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: a single text."""
        return ()

    def __str__(self) -> str:
        return "texts"


class TokenInput(BaseModel):
    """Texts as a network takes them: token ids, int32 [B, T], filled up with `padding` at the end.

    T is at most `length` and may differ from batch to batch; a sample has at least one token. Positions that hold
    `padding` are masked: they change no logit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["tokens"] = "tokens"
    vocabulary: int = Field(ge=1, description="Ids are 0 to this, exclusive.")
    length: int = Field(ge=1, description="The most tokens of a sample.")
    padding: int = Field(ge=0, description="The id that fills short samples up.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the longest raw sample: (T,)."""
        return (self.length,)

    def __str__(self) -> str:
        return f"texts of up to {self.length} tokens"


Input = Annotated[ImageInput | TableInput | TextInput | TokenInput, Field(discriminator="kind")]


class Signature(BaseModel):
    """The task, the input and the number of outputs: classes, or 1 for regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Task
    input: Input
    outputs: int = Field(ge=1)

    @property
    def is_regression(self) -> bool:
        return self.task == "tabular-regression"
