"""Tells workers about new jobs after the answer has gone out, so that a dead broker delays nobody."""

from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

import structlog

from models.errors import Unavailable
from workers import broker, dispatch
from workers.database import Database
from workers.job_records import Job
from workers.settings import Settings

MOST_WAITING = 1000

log = structlog.get_logger("app.publishing")


class Publisher:
    """One thread that sends one message after the other. What it does not get to, the reconciler sends later."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._thread = ThreadPoolExecutor(1, "publisher")
        self._places = BoundedSemaphore(MOST_WAITING)

    def announce(self, job: Job) -> None:
        """Send "this job may be waiting" soon. Never waits and never raises."""
        if self._places.acquire(blocking=False):
            self._thread.submit(self._send, job)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _send(self, job: Job) -> None:
        try:
            if broker.publish(self._settings, job.framework, job.id):
                dispatch.mark_dispatched(self._database, job.id)
            else:
                log.warning("broker_does_not_answer", job_id=job.id)
        except Unavailable as problem:
            log.warning("not_marked_as_dispatched", job_id=job.id, detail=problem.detail)
        finally:
            self._places.release()
