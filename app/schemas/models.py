"""Registered models, their versions and aliases."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.paging import Answer
from models.framework import EngineName, Framework
from models.serving import MOST_ROWS, Loading, ModelServing, ServingPrecision
from models.signature import Input, Task
from workers.registry import Deleted as DeletedRecord
from workers.registry import Model as ModelRecord
from workers.registry import ModelVersion as VersionRecord

VERSION: dict[str, Any] = {
    "name": "digits-cnn",
    "object": "model_version",
    "version": 3,
    "framework": "torch",
    "architecture": "cnn",
    "task": "image-classification",
    "input": {"kind": "image", "height": 8, "width": 8, "channels": 1},
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "metrics": {"test_accuracy": 0.985, "test_loss": 0.05},
    "dataset": {"id": "ds_00000000000000000000000000", "name": "digits"},
    "job": "job_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "spec": {"architecture": "cnn", "width": 32, "stages": 3},
    "sha256": "9f86d081884c7d65" * 4,
    "size_bytes": 1152340,
    "parameters": 287018,
    "created_at": "2026-01-05T09:30:09Z",
    "aliases": ["champion"],
    "serving": {"precision": "float32", "agreement": {}},
}


class VersionDataset(Answer):
    """What a version was trained on."""

    id: str
    name: str


class VersionServing(Answer):
    """What predictions are computed in."""

    precision: ServingPrecision
    agreement: dict[EngineName, float] = Field(
        description="For each engine that was tried in this precision, the share of the validation split that keeps its"
        " labels. One that keeps too few computes in float32."
    )


class ModelVersion(Answer):
    """Weights, trained or imported, ready to be served by either framework."""

    model_config = ConfigDict(json_schema_extra={"examples": [VERSION]})
    name: str
    object: Literal["model_version"] = "model_version"
    version: int
    framework: Framework | None = Field(
        description="The one that trained it, null if it was imported; both can serve it."
    )
    architecture: str
    task: Task
    input: Input
    classes: tuple[str, ...] | None
    metrics: dict[str, float | None]
    dataset: VersionDataset | None = Field(description="Null if it was imported.")
    job: str | None = Field(description="The job that trained it; null if it was imported.")
    spec: dict[str, Any] = Field(description="The architecture with its options.")
    sha256: str
    size_bytes: int
    parameters: int
    created_at: datetime
    aliases: tuple[str, ...]
    serving: VersionServing

    @classmethod
    def of(cls, version: VersionRecord) -> Self:
        same = {name: getattr(version, name) for name in cls.model_fields.keys() & vars(version).keys()}
        dataset = {"id": version.dataset_id, "name": version.dataset_name}
        return cls.model_validate(
            {
                **same,
                "input": version.signature.input,
                "dataset": None if version.dataset_id is None else dataset,
                "job": version.job_id,
                "serving": version.serving.model_dump(),
            }
        )


class ModelLoading(Answer):
    """When a model is loaded, and its bounds; null where they are the server's."""

    load: Loading
    max_batch_rows: int | None
    max_waiting_predictions: int | None


class Model(Answer):
    """A name with its versions, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "digits-cnn",
                    "object": "model",
                    "champion": 3,
                    "aliases": {"champion": 3},
                    "versions": [VERSION],
                    "created_at": "2026-01-05T09:30:09Z",
                    "enabled": True,
                    "serving": {"load": "pinned", "max_batch_rows": None, "max_waiting_predictions": 256},
                }
            ]
        }
    )
    name: str
    object: Literal["model"] = "model"
    champion: int = Field(description="The version that the name alone means.")
    aliases: dict[str, int]
    versions: tuple[ModelVersion, ...]
    created_at: datetime
    enabled: bool = Field(description="Whether it answers predictions; false after an unload.")
    serving: ModelLoading

    @classmethod
    def of(cls, model: ModelRecord) -> Self:
        return cls(
            name=model.name,
            champion=model.champion.version,
            aliases=model.aliases,
            versions=tuple(map(ModelVersion.of, model.versions)),
            created_at=model.created_at,
            enabled=model.enabled,
            serving=ModelLoading(**model.serving.model_dump()),
        )


class ServingChoice(BaseModel):
    """How a version is to be served."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    precision: ServingPrecision = Field(
        description="`bfloat16` is taken only if at least 99.5 % of the version's validation split keep their labels."
    )


class VersionChange(BaseModel):
    """What of a version can be changed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"serving": {"precision": "bfloat16"}}]},
    )
    serving: ServingChoice


class ModelServingChoice(BaseModel):
    """How a model is to be served; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    load: Loading = Field(
        default="on_demand",
        description="When the version that the name alone means is in memory: from its first request; from the server's"
        " start or an alias's move on (`at_start`); or so and never to make room for others (`pinned`).",
    )
    max_batch_rows: int | None = Field(
        default=None, ge=1, le=MOST_ROWS, description="Inputs computed at once; null: the server's."
    )
    max_waiting_predictions: int | None = Field(
        default=None, ge=1, le=2**20, description="Inputs that may wait; null: the server's."
    )

    def applied(self, to: ModelServing) -> ModelServing:
        return to.model_copy(update=self.model_dump(exclude_unset=True))


class ModelChange(BaseModel):
    """What of a model can be changed."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"serving": {"load": "pinned"}}]},
    )
    serving: ModelServingChoice


class AliasTarget(BaseModel):
    """The version that an alias is to mean."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [{"version": 3}]}
    )
    version: int = Field(ge=1, lt=2**31)


class Deleted(Answer):
    """What is gone: these versions, and the aliases that meant them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "digits-cnn",
                    "object": "model",
                    "deleted": True,
                    "versions": [2],
                    "aliases": ["shadow"],
                }
            ]
        }
    )
    name: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
    versions: tuple[int, ...]
    aliases: tuple[str, ...]

    @classmethod
    def of(cls, name: str, deleted: DeletedRecord) -> Self:
        return cls(name=name, versions=deleted.versions, aliases=deleted.aliases)
