"""The state machine of a job: queued -> running -> succeeded | failed | cancelled.

The row is the truth. Every transition is one statement guarded by the status and the fence that it expects;
what follows in the same transaction (events, the attempt's end) only runs if that statement found its row. So a
message may be lost, late or repeated, and a worker that was given up may come back, without harm.

This module has what clients and supervisors do; the reconciler's part is in `workers.dispatch`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, false, func, or_, select, true
from sqlalchemy.orm import Session

from models.errors import Conflict
from models.job import JobSpec
from workers import idempotency as idempotency_keys
from workers import job_records, registry
from workers.clock import now
from workers.database import Database
from workers.datasets import DatasetRecord, hold
from workers.idempotency import IdempotencyClaim
from workers.identifiers import new_id
from workers.job_events import append_progress, append_reports, append_status
from workers.job_queries import find
from workers.job_records import NOUNS, PREFIXES, Job, Kind
from workers.reports import FinishedModel, Progress, Report, RowProgress
from workers.tables import CheckpointRow, JobRow
from workers.tables.base import plain
from workers.transitions import (
    Verdict,
    begin_attempt,
    change,
    end_attempt,
    held,
    merge,
    note_device,
    note_progress,
    of_job,
    settle,
    succeed,
    verdict,
)

LONGEST_NAME = 64


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt, for as long as `fence` is the job's."""

    job: Job
    attempt: int
    fence: int


@dataclass(frozen=True)
class Heartbeat:
    """`alive` is False when the job is no longer this attempt's: kill the trainer, publish nothing."""

    alive: bool
    cancel_requested: bool = False


def create(
    db: Database,
    spec: JobSpec,
    dataset: DatasetRecord,
    *,
    max_attempts: int,
    resumed_from: str | None = None,
    idempotency: IdempotencyClaim | None = None,
) -> Job:
    """A new queued job. `spec` is fully resolved. Publish its id afterwards.

    The idempotency record is tied to the job in the same transaction, so a crash cannot make two.
    Raises NotFound when the dataset was deleted meanwhile, Conflict when the idempotency claim was lost.
    """
    row = row_of(spec, dataset, max_attempts)
    row.resumed_from = resumed_from
    with db.session() as session:
        return insert(session, row, idempotency)


def retry(
    db: Database, job_id: str, kind: Kind = "training", *, idempotency: IdempotencyClaim | None = None
) -> Job:
    """A new queued job like this failed or cancelled one, to go on from what it has left.

    Raises Conflict for a job in another state, or when the version that predicts was deleted; NotFound when it or its
    dataset is not there.
    """
    noun = NOUNS[kind]
    with db.session() as session:
        old = find(session, job_id, kind)
        if old.status not in ("failed", "cancelled"):
            raise Conflict(
                f"{noun} {job_id} is {old.status}; only a failed or cancelled {noun} can be retried."
            )
        _check_model(session, old)
        row = JobRow(
            kind=old.kind,
            name=old.name,
            framework=old.framework,
            spec=old.spec,
            dataset_id=old.dataset_id,
            dataset_name=old.dataset_name,
            dataset_sha256=old.dataset_sha256,
            job_metadata=old.job_metadata,
            resumed_from=old.id,
            max_attempts=old.max_attempts,
            model_name=old.model_name,
            model_version=old.model_version,
        )
        return insert(session, row, idempotency)


def cancel(db: Database, job_id: str, kind: Kind = "training") -> Job:
    """End a queued job at once; ask the supervisor of a running one to end it. Again: the same answer.

    Raises Conflict when the job has succeeded or failed.
    """
    waiting = JobRow.status == "queued"
    with db.session() as session:
        row = change(
            session,
            of_job(job_id)
            .where(JobRow.kind == kind, or_(waiting, JobRow.status == "running"), ~JobRow.cancel_requested)
            .values(
                cancel_requested=True,
                status=case((waiting, "cancelled"), else_=JobRow.status),
                finished_at=case((waiting, now()), else_=JobRow.finished_at),
            ),
        )
        if row is not None:
            append_status(session, row, cancel_requested=True)
            return _record(session, row)
        found = find(session, job_id, kind)
        if found.status in ("succeeded", "failed"):
            raise Conflict(f"{NOUNS[kind]} {job_id} has {found.status} already; there is nothing to cancel.")
        return job_records.job(found)


def claim(db: Database, job_id: str, *, worker: str, host: str, lease_s: float) -> Claim | None:
    """Take a queued job for `lease_s` seconds; None when it is not to be had (any more, or yet)."""
    with db.session() as session:
        row = change(
            session,
            of_job(job_id)
            .where(
                JobRow.status == "queued",
                ~JobRow.cancel_requested,
                or_(JobRow.not_before.is_(None), JobRow.not_before <= now()),
            )
            .values(
                status="running",
                attempt=JobRow.attempt + 1,
                fence=JobRow.fence + 1,
                owner=worker,
                lease_until=now() + lease_s,
                started_at=func.coalesce(JobRow.started_at, now()),
                not_before=None,
                phase=None,
                first_progress_at=None,
                first_progress_step=None,
                last_progress_at=None,
            ),
        )
        if row is None:
            return None
        if row.started_at is not None:
            row.timing = {"queued_s": row.started_at - row.created_at, **row.timing}
        begin_attempt(session, row, worker, host)
        append_status(session, row, worker=worker)
        return Claim(_record(session, row), row.attempt, row.fence)


def heartbeat(db: Database, job_id: str, fence: int, *, lease_s: float) -> Heartbeat:
    """Keep the job for another `lease_s` seconds from now."""
    with db.session() as session:
        row = change(session, held(job_id, fence).values(lease_until=now() + lease_s))
        return Heartbeat(False) if row is None else Heartbeat(True, row.cancel_requested)


def record(
    db: Database,
    job_id: str,
    fence: int,
    *,
    phase: str | None = None,
    progress: Progress | RowProgress | None = None,
    metrics: Mapping[str, float] | None = None,
    timing: Mapping[str, float] | None = None,
    device: str | None = None,
    dataset_sha256: str | None = None,
    reports: Sequence[Report] = (),
) -> bool:
    """Note what a running attempt tells. False: the job is no longer this attempt's, nothing was noted.

    `metrics` and `timing` are merged into the job's. `reports` become events in their order.
    """
    with db.session() as session:
        row = change(session, held(job_id, fence).values(fence=fence))
        if row is None:
            return False
        append_reports(session, row, reports)
        merge(row, metrics or {}, timing or {})
        row.dataset_sha256 = dataset_sha256 or row.dataset_sha256
        if device is not None:
            note_device(session, row, device)
        if phase is not None:
            row.phase = plain(phase)
            append_status(session, row, phase=row.phase)
        if progress is not None:
            note_progress(row, progress)
            append_progress(session, row, progress)
        return True


def finish(db: Database, job_id: str, fence: int, model: FinishedModel) -> registry.ModelVersion | None:
    """The job succeeded: register its weights as the next version of its model, in the same transaction.

    None: refused, the job is no longer this attempt's; discard what was made.
    """
    with db.session() as session:
        row = succeed(session, job_id, fence, model.sha256, stop_reason=model.stop_reason)
        if row is None:
            return None
        merge(row, model.metrics, model.timing)
        row.peak_memory_bytes = model.peak_memory_bytes
        version = registry.add_version(session, row, model)
        row.model_name, row.model_version = version.name, version.version
        end_attempt(session, row, fence, "succeeded", model.stop_reason)
        append_status(
            session, row, model=version.name, version=version.version, stop_reason=model.stop_reason
        )
        return version


def release(db: Database, job_id: str, fence: int, *, reason: str) -> bool:
    """Give a running job back, to be claimed again at once; the attempt is not charged.

    A job that was to be cancelled is cancelled instead. False: it is no longer this attempt's.
    """
    with db.session() as session:
        row = change(
            session,
            held(job_id, fence).values(
                status=verdict(true()),
                fence=JobRow.fence + 1,
                attempt=JobRow.attempt - 1,
                lease_until=None,
                dispatched_at=None,
            ),
        )
        if row is None:
            return False
        settle(session, row, fence, "released", reason)
        return True


def attempt_failed(
    db: Database, job_id: str, fence: int, *, code: str, message: str, retryable: bool, backoff_s: float
) -> Verdict | None:
    """The attempt ended without a result. What becomes of the job: None when it is no longer this attempt's.

    `queued`, to be claimed in `backoff_s` seconds at the earliest, when it is worth another attempt and has
    one left; `cancelled` if that was asked for; else `failed` with this code and message.
    """
    with db.session() as session:
        row = change(
            session,
            held(job_id, fence).values(
                status=verdict(JobRow.attempt < JobRow.max_attempts if retryable else false()),
                fence=JobRow.fence + 1,
                lease_until=None,
                dispatched_at=None,
                not_before=now() + backoff_s,
            ),
        )
        return None if row is None else settle(session, row, fence, "failed", message, code=code)


def cancelled(db: Database, job_id: str, fence: int) -> bool:
    """The running attempt has ended because that was asked for. False: it is no longer this attempt's."""
    with db.session() as session:
        row = change(
            session, held(job_id, fence).values(status="cancelled", fence=JobRow.fence + 1, lease_until=None)
        )
        if row is None:
            return False
        settle(session, row, fence, "cancelled", "cancelled on request")
        return True


def forget_checkpoints(db: Database, job_id: str, keep: int = 2) -> list[str]:
    """Drop the records of all but the newest `keep` checkpoints; the folders that may now be deleted."""
    newest_first = (
        select(CheckpointRow)
        .where(CheckpointRow.job_id == job_id)
        .order_by(CheckpointRow.fence.desc(), CheckpointRow.step.desc())
    )
    with db.session() as session:
        old = session.scalars(newest_first.offset(keep)).all()
        for row in old:
            session.delete(row)
        return [row.folder for row in old]


def default_name(dataset: str, architecture: str) -> str:
    """`<dataset>-<architecture>`, the dataset's name cut where both together are too long."""
    return f"{dataset[: LONGEST_NAME - 1 - len(architecture)]}-{architecture}"


def row_of(spec: JobSpec, dataset: DatasetRecord, max_attempts: int) -> JobRow:
    """A training job, for `insert`. `spec` is fully resolved."""
    return JobRow(
        kind="training",
        name=spec.name or default_name(dataset.name, spec.model.architecture),
        framework=spec.framework,
        spec=spec.model_dump(mode="json"),
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        dataset_sha256=dataset.sha256,
        job_metadata=spec.metadata,
        max_attempts=max_attempts,
    )


def insert(session: Session, row: JobRow, idempotency: IdempotencyClaim | None) -> Job:
    """Queue a new job of any kind. Raises NotFound when its dataset was deleted, Conflict when the claim was lost."""
    hold(session, row.dataset_id, row.dataset_name)
    row.id = new_id(PREFIXES[row.kind])
    row.status = "queued"
    row.created_at = now()
    session.add(row)
    session.flush()
    if idempotency is not None:
        idempotency_keys.attach(session, idempotency, row.id)
    append_status(session, row)
    return _record(session, row)


def _check_model(session: Session, row: JobRow) -> None:
    """Raise Conflict when what is to predict was deleted. Jobs that train have no model yet."""
    name, version = row.model_name, row.model_version
    if name is not None and version is not None and not registry.is_there(session, name, version):
        raise Conflict(
            f"model '{name}@{version}' was deleted; ask for a new prediction with another version.",
            pointer="/model",
            code="model_deleted",
        )


def _record(session: Session, row: JobRow) -> Job:
    session.flush()
    return job_records.job(row)
