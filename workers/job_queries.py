"""Reading jobs and what they left behind.

Where a `kind` is given, a job of another kind is not found.
"""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models.errors import InvalidInput, NotFound
from models.framework import Framework
from workers import curves, job_records
from workers.database import Database
from workers.job_records import NOUNS, PREFIXES, AttemptRecord, CheckpointRecord, Event, Job, Kind, Status
from workers.paging import Order, Page, check_cursor, page_of
from workers.tables import AttemptRow, CheckpointRow, EventRow, JobRow, MetricRow

LARGEST_SEQ = 2**63 - 1


def get(db: Database, job_id: str, kind: Kind | None = None) -> Job:
    """Raises NotFound."""
    with db.reading() as session:
        return job_records.job(find(session, job_id, kind))


def page(
    db: Database,
    limit: int = 20,
    after: str | None = None,
    order: Order = "desc",
    *,
    kind: Kind = "training",
    status: Status | None = None,
    framework: Framework | None = None,
    dataset: str | None = None,
    name: str | None = None,
) -> Page[Job]:
    """Jobs, newest first; `dataset` is a name or an id, `name` the model's. Raises InvalidInput."""
    check_cursor(after, PREFIXES[kind])
    query = select(JobRow).where(JobRow.kind == kind)
    if status is not None:
        query = query.where(JobRow.status == status)
    if framework is not None:
        query = query.where(JobRow.framework == framework)
    if dataset is not None:
        query = query.where(or_(JobRow.dataset_id == dataset, JobRow.dataset_name == dataset))
    if name is not None:
        query = query.where(JobRow.name == name)
    with db.reading() as session:
        return page_of(session, query, JobRow.id, limit=limit, after=after, order=order).map(job_records.job)


def events(
    db: Database, job_id: str, after: int = 0, limit: int = 200, kind: Kind | None = None
) -> list[Event]:
    """The job's events whose `seq` is above `after`, in order. Raises NotFound."""
    query = (
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.seq > min(after, LARGEST_SEQ))
        .order_by(EventRow.seq)
        .limit(limit)
    )
    return [job_records.event(row) for row in _rows_of(db, job_id, query, kind)]


def metrics(
    db: Database, job_id: str, points: int | None = None, kind: Kind | None = None
) -> dict[str, list[Any]]:
    """The curves as columns: step, epoch, train_loss, ...; None where a step has no such value.

    At most `points` rows, evenly thinned; the first and the last stay. Raises NotFound, InvalidInput.
    """
    if points is not None and points < 1:
        raise InvalidInput(f"points is {points}; use at least 1.", pointer="/points")
    query = select(MetricRow).where(MetricRow.job_id == job_id).order_by(MetricRow.step)
    return curves.columns(_rows_of(db, job_id, query, kind), points)


def logs(db: Database, job_id: str, kind: Kind | None = None) -> str:
    """What the job's trainers have written, up to about 1 MB. Raises NotFound."""
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.type == "log").order_by(EventRow.seq)
    return "".join(row.data["text"] for row in _rows_of(db, job_id, query, kind))


def checkpoints(db: Database, job_id: str, kind: Kind | None = None) -> list[CheckpointRecord]:
    """Newest first. Raises NotFound."""
    return [job_records.checkpoint(row) for row in _rows_of(db, job_id, _checkpoints(job_id), kind)]


def latest_checkpoint(db: Database, job_id: str) -> CheckpointRecord | None:
    """Where to go on: the job's own newest checkpoint, else that of the job it was resumed from, and so on."""
    with db.reading() as session:
        ancestor: str | None = job_id
        while ancestor is not None:
            row = session.scalars(_checkpoints(ancestor).limit(1)).one_or_none()
            if row is not None:
                return job_records.checkpoint(row)
            ancestor = find(session, ancestor).resumed_from
        return None


def attempts(db: Database, job_id: str) -> list[AttemptRecord]:
    """In the order they were made. Raises NotFound."""
    query = select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.fence)
    return [job_records.attempt(row) for row in _rows_of(db, job_id, query)]


def counts(db: Database, kind: Kind = "training") -> dict[tuple[Framework, Status], int]:
    """How many jobs there are of each framework and status; pairs without any are left out."""
    pair = JobRow.framework, JobRow.status
    query = select(*pair, func.count()).where(JobRow.kind == kind).group_by(*pair)
    with db.reading() as session:
        return {
            (cast(Framework, framework), cast(Status, status)): count
            for framework, status, count in session.execute(query)
        }


def find(session: Session, job_id: str, kind: Kind | None = None) -> JobRow:
    """Raises NotFound."""
    row = session.get(JobRow, job_id)
    if row is None or kind not in (None, row.kind):
        noun = NOUNS[kind or "training"]
        raise NotFound(f"there is no {noun} {job_id!r}; GET /{noun}s lists them.")
    return row


def _checkpoints(job_id: str) -> Any:
    newest_first = (CheckpointRow.fence.desc(), CheckpointRow.step.desc())
    return select(CheckpointRow).where(CheckpointRow.job_id == job_id).order_by(*newest_first)


def _rows_of(db: Database, job_id: str, query: Any, kind: Kind | None = None) -> Sequence[Any]:
    with db.reading() as session:
        find(session, job_id, kind)
        return session.scalars(query).all()
