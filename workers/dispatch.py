"""The reconciler's transitions: attempts whose lease ran out, jobs whose message may be lost.

No leader is needed: every statement may run in several processes at once.
"""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from models.framework import FRAMEWORKS, Framework
from workers.clock import now
from workers.database import Database
from workers.tables import JobRow
from workers.transitions import Verdict, change, of_job, settle, verdict

LOST = "the worker that ran it stopped answering"


@dataclass(frozen=True)
class Expired:
    """A job whose attempt was given up, and what became of it."""

    job_id: str
    framework: Framework
    status: Verdict


def expire_leases(db: Database) -> list[Expired]:
    """Give up every attempt whose lease ran out: the job is queued again, failed, or cancelled if that was asked.

    The fence moves on, so the lost worker is refused if it comes back.
    """
    overdue = select(JobRow.id).where(JobRow.status == "running", JobRow.lease_until < now())
    with db.reading() as session:
        job_ids = session.scalars(overdue).all()
    expired = [expire_lease(db, job_id) for job_id in job_ids]
    return [one for one in expired if one is not None]


def expire_lease(db: Database, job_id: str) -> Expired | None:
    """Give up the job's attempt if its lease has run out by now; None: it has not, or nobody runs it."""
    with db.session() as session:
        row = change(
            session,
            of_job(job_id)
            .where(JobRow.status == "running", JobRow.lease_until < now())
            .values(
                status=verdict(JobRow.attempt < JobRow.max_attempts),
                fence=JobRow.fence + 1,
                lease_until=None,
                dispatched_at=None,
            ),
        )
        if row is None:
            return None
        reason = f"{LOST} (attempt {row.attempt} of {row.max_attempts})."
        status = settle(session, row, row.fence - 1, "lost", reason, code="worker_lost")
        return Expired(job_id, cast(Framework, row.framework), status)


def stale_queued(db: Database, redispatch_s: float, limit: int = 20) -> list[tuple[str, Framework]]:
    """Jobs that may be claimed but whose message was never sent, or is `redispatch_s` old; of each the oldest first.

    At most `limit` for each framework: these run next, and a long queue does not fill the broker with copies.
    """
    with db.reading() as session:
        return [
            (job_id, framework)
            for framework in FRAMEWORKS
            for job_id in _stale(session, framework, redispatch_s, limit)
        ]


def claimable(db: Database) -> dict[Framework, int]:
    """How many jobs of each framework may be claimed now: as many messages should wait for workers."""
    query = select(JobRow.framework, func.count()).where(*_may_be_claimed()).group_by(JobRow.framework)
    with db.reading() as session:
        return {cast(Framework, framework): count for framework, count in session.execute(query)}


def mark_dispatched(db: Database, job_id: str) -> None:
    """The job's message was sent just now."""
    with db.session() as session:
        change(session, of_job(job_id).where(JobRow.status == "queued").values(dispatched_at=now()))


def _stale(session: Session, framework: Framework, redispatch_s: float, limit: int) -> list[str]:
    """Those first that surely have no message, such as one that its worker has just given back."""
    sent_at = JobRow.dispatched_at
    query = (
        select(JobRow.id)
        .where(
            *_may_be_claimed(),
            JobRow.framework == framework,
            or_(sent_at.is_(None), sent_at < now() - redispatch_s),
        )
        .order_by(sent_at.is_not(None), JobRow.created_at, JobRow.id)
        .limit(limit)
    )
    return list(session.scalars(query))


def _may_be_claimed() -> tuple[ColumnElement[bool], ...]:
    return JobRow.status == "queued", or_(JobRow.not_before.is_(None), JobRow.not_before <= now())
