"""Whether a dataset can be predicted as it is asked for; and the same prediction with nothing left open."""

from app.submission import known_dataset
from models.errors import InvalidInput, NotFound
from models.framework import Framework
from models.scoring import samples
from models.scoring.spec import PredictionSpec, ScoringSpec
from workers import registry
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.registry import ModelVersion

USUAL_ENGINE: Framework = "torch"
"""For models that no framework of ours has trained."""


def settled(db: Database, spec: PredictionSpec) -> tuple[ScoringSpec, DatasetRecord, ModelVersion]:
    """The prediction with the exact version and engine, the dataset, and the version.

    Raises InvalidInput, naming the field, for what is unknown or does not fit.
    """
    version = _version(db, spec.model)
    dataset = known_dataset(db, spec.dataset)
    samples.check(version.signature, dataset.description)
    engine = (version.framework or USUAL_ENGINE) if spec.engine == "auto" else spec.engine
    complete = ScoringSpec(
        **dict(spec) | {"model": f"{version.name}@{version.version}", "engine": engine},
        precision=version.serving.on(engine),
        rows=samples.count(spec.split, dataset.description),
    )
    return complete, dataset, version


def _version(db: Database, reference: str) -> ModelVersion:
    try:
        return registry.resolve(db, reference)
    except NotFound as error:
        raise InvalidInput(error.detail, pointer="/model", code="unknown_model") from None
