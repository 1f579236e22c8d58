"""The workers that have reported lately, for people to see. No decision about a job rests on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import delete, select

from models.framework import Framework
from workers.clock import moment, now
from workers.database import Database, upsert
from workers.paging import Order, Page, check_cursor, page_of
from workers.tables import WorkerRow

PREFIX = "wrk"
"""Of workers' ids."""


@dataclass(frozen=True)
class WorkerRecord:
    """`jobs` are the ids of those it runs now, at most `slots`."""

    id: str
    host: str
    pid: int
    framework: Framework
    device: str
    slots: int
    jobs: tuple[str, ...]
    started_at: datetime
    last_seen_at: datetime


def beat(
    db: Database,
    *,
    id: str,
    host: str,
    pid: int,
    framework: Framework,
    device: str,
    slots: int,
    jobs: Sequence[str],
) -> None:
    """This worker lives. The first beat is its start."""
    told = {
        "host": host,
        "pid": pid,
        "framework": framework,
        "device": device,
        "slots": slots,
        "jobs": list(jobs),
    }
    with db.session() as session:
        row = upsert(session, WorkerRow).values(id=id, started_at=now(), last_seen_at=now(), **told)
        session.execute(
            row.on_conflict_do_update(index_elements=["id"], set_={"last_seen_at": now(), **told})
        )


def leave(db: Database, id: str) -> None:
    """This worker ends."""
    with db.session() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.id == id))


def page(
    db: Database,
    limit: int = 20,
    after: str | None = None,
    order: Order = "desc",
    *,
    seen_within_s: float | None = None,
) -> Page[WorkerRecord]:
    """Workers by id; only those seen lately if `seen_within_s` is given. Raises InvalidInput."""
    check_cursor(after, PREFIX)
    query = select(WorkerRow)
    if seen_within_s is not None:
        query = query.where(WorkerRow.last_seen_at >= now() - seen_within_s)
    with db.reading() as session:
        return page_of(session, query, WorkerRow.id, limit=limit, after=after, order=order).map(_record)


def prune(db: Database, older_than_s: float) -> None:
    """Forget workers that were last seen `older_than_s` seconds ago or longer."""
    with db.session() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.last_seen_at <= now() - older_than_s))


def _record(row: WorkerRow) -> WorkerRecord:
    return WorkerRecord(
        id=row.id,
        host=row.host,
        pid=row.pid,
        framework=cast(Framework, row.framework),
        device=row.device,
        slots=row.slots,
        jobs=tuple(row.jobs),
        started_at=moment(row.started_at),
        last_seen_at=moment(row.last_seen_at),
    )
