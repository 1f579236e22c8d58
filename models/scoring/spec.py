"""What to predict, with what, and how the answers are kept."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.answers import LARGEST_TOP_K, Wanted
from models.framework import Framework
from models.job import MetadataValue
from models.serving import ServingPrecision

SplitChoice = Literal["train", "validation", "test", "all"]
ResultFormat = Literal["parquet", "jsonl"]


class PredictionSpec(BaseModel):
    """The body of `POST /predictions`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_by_name=True, serialize_by_alias=True
    )
    model: str = Field(
        pattern=r"^[A-Za-z0-9._@-]{1,160}$", description="`name`, `name@3`, `name@alias` or a job's id."
    )
    dataset: str = Field(min_length=1, max_length=64, description="A dataset's name or id.")
    split: SplitChoice = Field(
        default="test", description="Which rows; `all` is train, validation and test, in this order."
    )
    engine: Literal["auto", "torch", "jax"] = Field(
        default="auto",
        description="What computes; `auto` is the framework that trained the model, else torch.",
    )
    wanted: list[Wanted] = Field(default=["labels"], alias="return", min_length=1, max_length=8)
    top_k: int = Field(
        default=1, ge=1, le=LARGEST_TOP_K, description="Labels to list for each row, likeliest first."
    )
    format: ResultFormat = "parquet"
    metadata: dict[Annotated[str, Field(max_length=64)], MetadataValue] = Field(
        default_factory=dict, max_length=32
    )


class ScoringSpec(PredictionSpec):
    """The same with nothing left open, so that a run that is resumed computes what it would have computed."""

    model: str
    """`name@version`."""
    engine: Framework
    precision: ServingPrecision
    rows: int
