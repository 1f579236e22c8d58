"""What a job, an upload or an import says of how images become a network's input."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Pixels = Annotated[int, Field(ge=1, le=4096)]
Resize = Literal["stretch", "crop", "pad"]
Deviation = Annotated[float, Field(gt=1e-6, allow_inf_nan=False)]


class PreprocessSpec(BaseModel):
    """Options for images; what is left out follows the dataset, or the published checkpoint a job starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    size: tuple[Pixels, Pixels] | None = Field(default=None, description="Height and width in pixels.")
    resize: Resize | None = Field(
        default=None,
        description="How an image of other proportions gets this size: 'stretch' it, 'crop' its middle after scaling"
        " the shorter side, or 'pad' it with black after scaling the longer side. Default: 'stretch'.",
    )
    mean: tuple[FiniteFloat, ...] | None = Field(
        default=None, min_length=1, max_length=3, description="Per channel, of pixels scaled to 0..1."
    )
    std: tuple[Deviation, ...] | None = Field(
        default=None, min_length=1, max_length=3, description="Per channel, of pixels scaled to 0..1."
    )

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> Self:
        if (self.mean is None) != (self.std is None) or (
            self.mean and self.std and len(self.mean) != len(self.std)
        ):
            raise ValueError("give both 'mean' and 'std', with one number per channel")
        return self
