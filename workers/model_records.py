"""Registered models as the rest of the program sees them: values that don't change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from models.framework import Framework
from models.serving import ModelServing, Serving
from models.signature import Signature, Task
from workers.clock import moment
from workers.tables import AliasRow, ModelRow, VersionRow

CHAMPION = "champion"


@dataclass(frozen=True)
class ModelVersion:
    """Weights and all that is known of them. `sha256` addresses the weights file in the artifact store.

    `framework`, the dataset and the job are None where the weights were imported. `enabled`: whether its model answers
    predictions; `model_serving` is the model's.
    """

    name: str
    version: int
    framework: Framework | None
    architecture: str
    task: Task
    classes: tuple[str, ...] | None
    metrics: dict[str, Any]
    dataset_id: str | None
    dataset_name: str | None
    job_id: str | None
    sha256: str
    size_bytes: int
    parameters: int
    created_at: datetime
    aliases: tuple[str, ...]
    spec: dict[str, Any]
    signature: Signature
    serving: Serving
    enabled: bool
    model_serving: ModelServing


@dataclass(frozen=True)
class Model:
    """A name with at least one version; `versions` newest first."""

    name: str
    versions: tuple[ModelVersion, ...]
    aliases: dict[str, int]
    created_at: datetime
    enabled: bool
    serving: ModelServing

    @property
    def champion(self) -> ModelVersion:
        """What the bare name stands for: the version with that alias, else the newest."""
        return next((one for one in self.versions if CHAMPION in one.aliases), self.versions[0])


@dataclass(frozen=True)
class Deleted:
    """What went: the version numbers, and the aliases that pointed at them."""

    versions: tuple[int, ...]
    aliases: tuple[str, ...]


def model(row: ModelRow, versions: Iterable[VersionRow], aliases: Sequence[AliasRow]) -> Model:
    return Model(
        name=row.name,
        versions=tuple(
            version(one, tuple(alias.alias for alias in aliases if alias.version == one.version), row)
            for one in versions
        ),
        aliases={alias.alias: alias.version for alias in aliases},
        created_at=moment(row.created_at),
        enabled=row.enabled,
        serving=_serving(row),
    )


def version(row: VersionRow, aliases: tuple[str, ...], model: ModelRow) -> ModelVersion:
    signature = Signature.model_validate(row.signature)
    return ModelVersion(
        name=row.name,
        version=row.version,
        framework=cast("Framework | None", row.framework),
        architecture=row.spec["architecture"],
        task=signature.task,
        classes=None if row.classes is None else tuple(row.classes),
        metrics=row.metrics,
        dataset_id=row.dataset_id,
        dataset_name=row.dataset_name,
        job_id=row.job_id,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        parameters=row.parameters,
        created_at=moment(row.created_at),
        aliases=aliases,
        spec=row.spec,
        signature=signature,
        serving=Serving.model_validate(row.serving or {}),
        enabled=model.enabled,
        model_serving=_serving(model),
    )


def _serving(row: ModelRow) -> ModelServing:
    return ModelServing.model_validate(row.serving or {})
