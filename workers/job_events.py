"""The append-only side of a job: events, points of metrics, checkpoints, its log.

Called inside the transaction whose statement has just changed the job's row. That statement holds the row, so
sequence numbers never come in another order than the commits.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from workers.clock import now
from workers.database import upsert
from workers.job_records import FINAL, EventType
from workers.reports import Checkpoint, LogLines, Metrics, Progress, Report, RowProgress
from workers.tables import CheckpointRow, EventRow, JobRow, MetricRow
from workers.tables.base import plain

LARGEST_LOG_BYTES = 1_000_000
TRUNCATED = "... the log is cut here: it has reached its limit of 1 MB.\n"


def append(session: Session, row: JobRow, kind: EventType, data: dict[str, Any]) -> None:
    """Add one event, numbered by the job's counter."""
    row.event_seq += 1
    session.add(EventRow(job_id=row.id, seq=row.event_seq, type=kind, data=data, created_at=now()))


def append_status(session: Session, row: JobRow, **details: Any) -> None:
    """Say the job's status, and that nothing follows when it is final."""
    append(session, row, "status", {"status": row.status, "attempt": row.attempt, **details})
    if row.status in FINAL:
        append(session, row, "done", {"status": row.status})


def append_progress(session: Session, row: JobRow, progress: Progress | RowProgress) -> None:
    """Only the newest progress is kept, so that a long job stays small."""
    session.execute(delete(EventRow).where(EventRow.job_id == row.id, EventRow.type == "progress"))
    append(session, row, "progress", asdict(progress))


def append_reports(session: Session, row: JobRow, reports: Iterable[Report]) -> None:
    for report in reports:
        match report:
            case LogLines():
                _append_log(session, row, report)
            case Metrics():
                _append_metrics(session, row, report)
            case Checkpoint():
                _append_checkpoint(session, row, report)


def _append_log(session: Session, row: JobRow, lines: LogLines) -> None:
    room = LARGEST_LOG_BYTES - row.log_bytes
    if room <= 0:
        return
    text = plain(lines.text).encode()
    row.log_bytes += len(text)
    kept = text[:room].decode(errors="ignore")
    append(session, row, "log", {"text": kept if len(text) < room else f"{kept}\n{TRUNCATED}"})


def _append_metrics(session: Session, row: JobRow, metrics: Metrics) -> None:
    columns = metrics.columns
    point = {"job_id": row.id, "step": metrics.step, "kind": metrics.kind}
    values = {"epoch": metrics.epoch, "data": columns}
    statement = upsert(session, MetricRow).values(**point, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(point), set_=values))
    append(session, row, "metric", {"step": metrics.step, "epoch": metrics.epoch, **columns})
    if metrics.kind != "epoch_train":  # the row has these means as `train_loss`, see `relay`
        row.metrics = {**row.metrics, **columns}


def _append_checkpoint(session: Session, row: JobRow, checkpoint: Checkpoint) -> None:
    values = {"job_id": row.id, "fence": row.fence, "created_at": now(), **asdict(checkpoint)}
    session.execute(upsert(session, CheckpointRow).values(**values).on_conflict_do_nothing())
    data = {"step": checkpoint.step, "epoch": checkpoint.epoch, "size_bytes": checkpoint.size_bytes}
    append(session, row, "checkpoint", data)
