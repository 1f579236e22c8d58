"""Predictions of whole datasets: what differs from training jobs. `workers.jobs` has the rest of their states."""

from pathlib import Path

from sqlalchemy import delete as delete_from

from models.errors import Conflict, CorruptArtifact, NotFound
from models.scoring.spec import ScoringSpec
from workers import checkpoints, references
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.idempotency import IdempotencyClaim
from workers.job_events import append_status
from workers.job_queries import find
from workers.job_records import FINAL, Job
from workers.jobs import insert
from workers.model_records import ModelVersion
from workers.reports import FinishedPrediction
from workers.tables import AttemptRow, CheckpointRow, EventRow, JobRow, MetricRow
from workers.transitions import end_attempt, merge, succeed


def create(
    db: Database,
    spec: ScoringSpec,
    dataset: DatasetRecord,
    version: ModelVersion,
    *,
    max_attempts: int,
    idempotency: IdempotencyClaim | None = None,
) -> Job:
    """A new queued prediction with this version. Publish its id afterwards.

    Raises NotFound when the dataset was deleted meanwhile, Conflict when the idempotency claim was lost.
    """
    with db.session() as session:
        return insert(session, row_of(spec, dataset, version, max_attempts), idempotency)


def row_of(spec: ScoringSpec, dataset: DatasetRecord, version: ModelVersion, max_attempts: int) -> JobRow:
    """A prediction with this version, for `workers.jobs.insert`."""
    return JobRow(
        kind="prediction",
        name=version.name,
        framework=spec.engine,
        spec=spec.model_dump(mode="json"),
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        dataset_sha256=dataset.sha256,
        job_metadata=spec.metadata,
        max_attempts=max_attempts,
        model_name=version.name,
        model_version=version.version,
    )


def finish(db: Database, job_id: str, fence: int, result: FinishedPrediction) -> bool:
    """The prediction succeeded. False: refused, it is no longer this attempt's; discard what was made."""
    with db.session() as session:
        row = succeed(session, job_id, fence, result.sha256, artifact_bytes=result.size_bytes)
        if row is None:
            return False
        merge(row, result.metrics, result.timing)
        end_attempt(session, row, fence, "succeeded", None)
        append_status(session, row, size_bytes=result.size_bytes)
        return True


def result(store: ArtifactStore, prediction: Job) -> Path:
    """The file that it made. Raises Conflict while there is none, CorruptArtifact when it is lost."""
    if prediction.artifact_sha256 is None:
        raise Conflict(_why_not(prediction), code="no_result")
    try:
        return store.path(prediction.artifact_sha256)
    except NotFound as error:
        raise CorruptArtifact(f"The result of prediction {prediction.id} is lost.") from error


def delete(db: Database, store: ArtifactStore, checkpoints_dir: Path, job_id: str) -> None:
    """Forget a prediction that has ended, with its result and its parts. Raises NotFound, Conflict."""
    with db.session() as session:
        row = find(session, job_id, "prediction")
        if row.status not in FINAL:
            raise Conflict(f"prediction {job_id} is {row.status}; cancel it first, or wait for its end.")
        for table in (EventRow, MetricRow, CheckpointRow, AttemptRow):
            session.execute(delete_from(table).where(table.job_id == job_id))
        sha256 = row.artifact_sha256
        session.delete(row)
    if sha256 is not None:
        references.discard(db, store, sha256)
    checkpoints.forget(checkpoints_dir, job_id)


def _why_not(prediction: Job) -> str:
    match prediction.status:
        case "failed":
            return f"prediction {prediction.id} failed: {prediction.error_message}"
        case "cancelled":
            return f"prediction {prediction.id} was cancelled; POST /predictions/{prediction.id}/retry goes on with it."
        case status:
            return f"prediction {prediction.id} is {status}: there is no result yet."
