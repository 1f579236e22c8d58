"""What a trainer needs to know for one attempt, gathered from the database and the artifact store."""

import json
from pathlib import Path
from typing import Any

from models.errors import CorruptArtifact, NotFound
from models.job import FromJob, FromModel, JobSpec
from models.scoring.spec import ScoringSpec
from workers import checkpoints, job_queries, messages, registry
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.job_records import Job
from workers.jobs import Claim
from workers.settings import Settings


def assemble(
    db: Database, store: ArtifactStore, settings: Settings, claim: Claim, dataset: DatasetRecord
) -> messages.Work:
    """The assignment of a claimed job; makes its work folder.

    Raises NotFound when a model that it needs is gone, CorruptArtifact when a stored file is damaged.
    """
    work = settings.work_dir / f"{claim.job.id}-{claim.fence}"
    work.mkdir(parents=True, exist_ok=True)
    same: dict[str, Any] = {
        "job_id": claim.job.id,
        "fence": claim.fence,
        "dataset": _dataset(store, settings, dataset),
        "device": settings.device,
        "work_folder": str(work),
    }
    own = checkpoints.folder(settings.checkpoints_dir, claim.job.id, claim.fence)
    if claim.job.kind == "training":
        return messages.Assignment(
            **same, checkpoint_folder=str(own), **_training(db, store, settings, claim.job)
        )
    scoring = _scoring(db, store, settings, claim.job, dataset)
    return messages.ScoringAssignment(**same, part_folder=str(own), **scoring)


def _training(db: Database, store: ArtifactStore, settings: Settings, job: Job) -> dict[str, Any]:
    spec = JobSpec.model_validate_json(json.dumps(job.spec))
    root = settings.checkpoints_dir
    own = tuple(map(str, _checkpoints(db, root, job)))
    continued = tuple(map(str, _continued_checkpoints(db, root, spec)))
    return {
        "spec": spec,
        "checkpoint_every_s": spec.training.checkpoint_every_s or settings.checkpoint_every_s,
        "checkpoints": own,
        "continued_checkpoints": continued,
        "initial_weights": _initial_weights(db, store, spec, needed=not own and not continued),
        "pretrained_cache": str(settings.cache_dir / "pretrained"),
        "pretrained_folder": None if settings.pretrained_dir is None else str(settings.pretrained_dir),
    }


def _scoring(
    db: Database, store: ArtifactStore, settings: Settings, job: Job, dataset: DatasetRecord
) -> dict[str, Any]:
    spec = ScoringSpec.model_validate_json(json.dumps(job.spec))
    # A built-in dataset that another version of this program has made anew is not the one that the parts are of.
    is_same = job.dataset_sha256 in (None, dataset.sha256)
    earlier = _parts(db, settings.checkpoints_dir, job) if is_same else []
    return {
        "spec": spec,
        "weights": _weights(db, store, spec.model),
        "part_every_s": settings.checkpoint_every_s,
        "earlier_parts": tuple(map(str, earlier)),
    }


def _weights(db: Database, store: ArtifactStore, model: str) -> str:
    """The file of `name@version`. Raises NotFound, CorruptArtifact."""
    try:
        sha256 = registry.resolve(db, model).sha256
    except NotFound:
        raise NotFound(
            f"Model {model} was deleted before this prediction was done with it.", code="model_deleted"
        ) from None
    try:
        return str(store.verify(sha256))
    except NotFound as error:
        raise CorruptArtifact(f"The weights of {model} are lost.") from error


def _parts(db: Database, root: Path, job: Job) -> list[Path]:
    """Where the attempts at a prediction have left parts, and those at the predictions that it retries."""
    found = checkpoints.attempts(root, job.id)
    if job.resumed_from is None:
        return found
    try:
        before = job_queries.get(db, job.resumed_from)
    except NotFound:  # deleted, and its parts with it
        return found
    return found + _parts(db, root, before)


def _dataset(
    store: ArtifactStore, settings: Settings, record: DatasetRecord
) -> messages.BuiltinDataset | messages.StoredDataset:
    if record.sha256 is not None:
        try:
            return messages.StoredDataset(path=str(store.verify(record.sha256)))
        except (CorruptArtifact, NotFound):
            if not record.builtin:
                raise  # a built-in one is made again, which repairs the file
    folder = settings.datasets_dir or settings.cache_dir / "datasets"
    return messages.BuiltinDataset(name=record.name, folder=str(folder))


def _checkpoints(db: Database, root: Path, job: Job) -> list[Path]:
    """The job's own checkpoints, then those of the jobs that it retries; of each the newest first."""
    found = checkpoints.newest_first(root, job.id)
    if job.resumed_from is not None:
        found += _checkpoints(db, root, job_queries.get(db, job.resumed_from))
    return found


def _continued_checkpoints(db: Database, root: Path, spec: JobSpec) -> list[Path]:
    """Checkpoints of the job that this one continues, and of those that stand behind it."""
    if not isinstance(spec.init.source, FromJob):
        return []
    before = job_queries.get(db, spec.init.source.job)
    found = _checkpoints(db, root, before)
    return found + _continued_checkpoints(db, root, JobSpec.model_validate_json(json.dumps(before.spec)))


def _initial_weights(db: Database, store: ArtifactStore, spec: JobSpec, *, needed: bool) -> str | None:
    """The model that the job starts from; of a job that it continues, the model, lest it left no checkpoint.

    A model that was deleted meanwhile matters only where it is `needed`.
    """
    try:
        match spec.init.source:
            case FromModel(model=reference):
                return str(store.verify(registry.resolve(db, reference).sha256))
            case FromJob(job=earlier) if job_queries.get(db, earlier).model_name is not None:
                return str(store.verify(registry.resolve(db, earlier).sha256))
    except (CorruptArtifact, NotFound):
        if needed:
            raise
    return None
