"""The bodies of `POST /jobs` and `POST /comparisons`: what to train, on what, how."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.catalog import ModelSpec
from models.framework import FRAMEWORKS, Framework
from models.preprocessing.options import PreprocessSpec
from models.training import TrainingSpec

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, description="A name: a-z, 0-9, '.', '_' and '-'.")]
MOST_SEEDS = 20
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


class Recipe(BaseModel):
    """What to train, in whichever framework."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
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


class JobSpec(Recipe):
    """One training job."""

    framework: Framework


class ComparisonSpec(Recipe):
    """The same training in each of these frameworks, once for each seed."""

    frameworks: list[Framework] = Field(default=[*FRAMEWORKS], min_length=2, description="Which to compare.")
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_SEEDS,
        description="One run of each framework for each of these; only `training.seed` unless given.",
    )

    @field_validator("frameworks", "seeds")
    @classmethod
    def _once_each(cls, given: list[Any] | None) -> list[Any] | None:
        if given is not None and len({*given}) < len(given):
            raise ValueError("each may be given only once")
        return given

    def job(self, framework: Framework, seed: int) -> JobSpec:
        """One of its runs."""
        same = {name: getattr(self, name) for name in Recipe.model_fields}
        training = self.training.model_copy(update={"seed": seed})
        return JobSpec(framework=framework, **same | {"training": training})
