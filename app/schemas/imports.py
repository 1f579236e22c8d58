"""What comes with a checkpoint that is imported."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.catalog import ModelSpec
from models.job import Name
from models.preprocessing.options import PreprocessSpec
from models.signature import Task

Label = Annotated[str, Field(min_length=1, max_length=200)]


class ImportForm(BaseModel):
    """The fields that come with the file; those that are not plain texts are JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: Name
    model: ModelSpec | None = Field(
        default=None,
        description="The architecture with its options, as in a job; not needed for a file that Tandem wrote.",
    )
    task: Task | None = Field(default=None, description="For `linear` and `mlp`, which do several.")
    classes: tuple[Label, ...] | None = Field(
        default=None, min_length=2, description="Names of the outputs; '0', '1', ... unless given."
    )
    columns: tuple[Label, ...] | None = Field(
        default=None, description="Names of a row's numbers; 'x0', 'x1', ... unless given."
    )
    preprocess: PreprocessSpec = Field(
        default_factory=PreprocessSpec,
        description="How images become the network's input; unless given, as for the published checkpoints of the"
        " architecture.",
    )

    @field_validator("classes", "columns")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a name occurs twice")
        return names
