"""The body of `POST /jobs`: what to train, on what, how."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.catalog import ModelSpec
from models.framework import Framework
from models.preprocessing.options import PreprocessSpec
from models.training import TrainingSpec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, description="A name: a-z, 0-9, '.', '_' and '-'.")]
MetadataValue = Annotated[str, Field(max_length=512)] | int | float | bool | None


class FromModel(BaseModel):
    """Start from the weights of a registered model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    model: str = Field(min_length=1, max_length=160, description="'name', 'name@version' or 'name@alias'.")


class FromJob(BaseModel):
    """Continue from another job's last checkpoint, in either framework."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    job: str = Field(min_length=1, max_length=64)


class FromPretrained(BaseModel):
    """Start from a published checkpoint by its name, e.g. 'IMAGENET1K_V1' or 'distilbert-base-cased'."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    pretrained: str = Field(min_length=1, max_length=128)


class Init(BaseModel):
    """Where the weights start. 'pretrained' is the architecture's usual published checkpoint; the last layers start
    afresh where the classes are others."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_by_name=True, serialize_by_alias=True
    )
    source: Literal["scratch", "pretrained"] | FromPretrained | FromModel | FromJob = Field(
        default="scratch", alias="from"
    )


class JobSpec(BaseModel):
    """One training job."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    framework: Framework
    dataset: str = Field(min_length=1, max_length=64, description="A dataset's name or id.")
    model: ModelSpec
    training: TrainingSpec
    init: Init = Init()
    preprocess: PreprocessSpec = PreprocessSpec()
    name: Name | None = Field(
        default=None, description="Name of the model to register; default <dataset>-<architecture>."
    )
    metadata: dict[Annotated[str, Field(max_length=64)], MetadataValue] = Field(
        default_factory=dict, max_length=32
    )
