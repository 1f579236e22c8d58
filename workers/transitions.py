"""What the transitions of a job have in common: guarded statements and their consequences."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Update, case, update
from sqlalchemy.orm import Session

from workers.clock import now
from workers.job_events import append_status
from workers.reports import Progress, RowProgress, finite
from workers.tables import AttemptRow, JobRow
from workers.tables.base import plain

Verdict = Literal["queued", "failed", "cancelled"]
Outcome = Literal["succeeded", "released", "failed", "cancelled", "lost"]


def of_job(job_id: str) -> Update:
    return update(JobRow).where(JobRow.id == job_id)


def held(job_id: str, fence: int) -> Update:
    """An update that only the attempt with this fence may make."""
    return of_job(job_id).where(JobRow.fence == fence, JobRow.status == "running")


def change(session: Session, statement: Update) -> JobRow | None:
    """Run a guarded statement: the row as it is now and held until the transaction ends, or None."""
    result = session.execute(statement.returning(JobRow), execution_options={"synchronize_session": False})
    return result.scalar_one_or_none()


def succeed(session: Session, job_id: str, fence: int, sha256: str, **values: Any) -> JobRow | None:
    """The attempt with this fence has made this artifact; `values` are set besides. None: it is no longer its job."""
    ended = {"status": "succeeded", "phase": None, "lease_until": None, "finished_at": now()}
    return change(session, held(job_id, fence).values(**ended, artifact_sha256=sha256, **values))


def verdict(again: ColumnElement[bool]) -> ColumnElement[str]:
    """The status of a job whose attempt has ended without a result."""
    return case((JobRow.cancel_requested, "cancelled"), (again, "queued"), else_="failed")


def settle(
    session: Session, row: JobRow, fence: int, outcome: Outcome, reason: str, *, code: str | None = None
) -> Verdict:
    """Note how the attempt with this fence ended and what became of the job: its status, already decided."""
    reason = plain(reason)
    if row.status == "failed":
        row.error_code, row.error_message = code, reason
    if row.status == "queued":
        row.owner = None
    else:
        row.not_before = None
        row.finished_at = now()
    row.phase = None
    end_attempt(session, row, fence, outcome, reason)
    append_status(session, row, reason=reason)
    return cast(Verdict, row.status)


def begin_attempt(session: Session, row: JobRow, worker: str, host: str) -> None:
    session.add(
        AttemptRow(
            job_id=row.id, fence=row.fence, attempt=row.attempt, worker=worker, host=host, started_at=now()
        )
    )


def end_attempt(session: Session, row: JobRow, fence: int, outcome: Outcome, reason: str | None) -> None:
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == row.id, AttemptRow.fence == fence)
        .values(ended_at=now(), outcome=outcome, reason=reason)
    )


def merge(row: JobRow, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
    """Add to what is known; a value that is not finite becomes None."""
    row.metrics = {**row.metrics, **finite(metrics)}
    row.timing = {**row.timing, **finite(timing)}


def note_progress(row: JobRow, progress: Progress | RowProgress) -> None:
    """How far the job is; of a prediction the steps are rows. The first note of an attempt is where its pace is
    measured from."""
    match progress:
        case Progress():
            row.epoch, row.epochs = progress.epoch, progress.epochs
            row.step, row.total_steps = progress.step, progress.total_steps
        case RowProgress():
            row.step, row.total_steps = progress.rows, progress.total_rows
    row.last_progress_at = now()
    if row.first_progress_at is None:
        row.first_progress_at = now()
        row.first_progress_step = row.step


def note_device(session: Session, row: JobRow, device: str) -> None:
    """What the attempt runs on."""
    row.device = device
    attempt = (AttemptRow.job_id == row.id, AttemptRow.fence == row.fence)
    session.execute(update(AttemptRow).where(*attempt).values(device=device))
