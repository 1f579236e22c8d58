"""What goes from a running attempt to the database: heartbeats and, in batches, what the trainer reports.

A thread of its own does it, so that a database that hangs never keeps a supervisor from ending an attempt whose
lease is running out.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from shutil import rmtree

import structlog

from models.errors import Unavailable
from workers import job_queries, jobs
from workers.database import Database
from workers.reports import Checkpoint, LogLines, Progress, Report, RowProgress
from workers.settings import Settings

FLUSH_EVERY_S = 0.25
LOOK_FOR_CANCEL_EVERY_S = 1.0
MOST_WAITING = 10_000
"""Reports that wait for a database that does not answer; further log lines are dropped."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class News:
    """Something to record about a running attempt."""

    phase: str | None = None
    progress: Progress | RowProgress | None = None
    device: str | None = None
    dataset_sha256: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()

    def then(self, later: "News") -> "News":
        """Both as one: what was replaced meanwhile is left out."""
        return News(
            phase=later.phase or self.phase,
            progress=later.progress or self.progress,
            device=later.device or self.device,
            dataset_sha256=later.dataset_sha256 or self.dataset_sha256,
            metrics={**self.metrics, **later.metrics},
            timing={**self.timing, **later.timing},
            reports=_bounded(self.reports + later.reports),
        )


def _bounded(reports: tuple[Report, ...]) -> tuple[Report, ...]:
    if len(reports) <= MOST_WAITING:
        return reports
    return tuple(report for report in reports if not isinstance(report, LogLines))


class Ledger:
    """Keeps one attempt's lease and its row. `note` and the properties never wait for the database."""

    def __init__(self, db: Database, settings: Settings, job_id: str, fence: int) -> None:
        """The attempt has just been claimed."""
        self.lost = False
        """Another owner has the job, or nobody: end the trainer, keep nothing."""
        self.cancel_requested = False
        self._db, self._settings = db, settings
        self._job_id, self._fence = job_id, fence
        self._log = log.bind(job_id=job_id)
        self._lock = threading.Lock()
        self._news: News | None = None
        self._noted = self._recorded = 0
        self._held_since = time.monotonic()
        self._looked_at = time.monotonic()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"ledger-{job_id}", daemon=True)
        self._thread.start()

    @property
    def overdue(self) -> bool:
        """No heartbeat has been answered for so long that the lease may run out."""
        return time.monotonic() - self._held_since > self._settings.self_fence_s

    def note(self, news: News) -> None:
        with self._lock:
            self._news = news if self._news is None else self._news.then(news)
            self._noted += 1

    def drain(self) -> None:
        """Wait until all that was noted is recorded, or the lease does not allow it."""
        self._wake.set()
        while self._recorded < self._noted and not self.lost and not self.overdue:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop beating."""
        self._closing.set()
        self._wake.set()

    def _keep(self) -> None:
        while not self._closing.is_set() and not self.lost:
            self._turn()
            self._wake.wait(FLUSH_EVERY_S)
            self._wake.clear()

    def _turn(self) -> None:
        try:
            self._beat()
            self._flush()
            self._look_for_cancel()
        except Unavailable as problem:
            self._log.warning("the database does not answer; trying again", problem=problem.detail)
            time.sleep(FLUSH_EVERY_S)
        except Exception:  # noqa: BLE001 - the next beat must come whatever went wrong
            self._log.exception("a turn failed")

    def _beat(self) -> None:
        began = time.monotonic()
        if began - self._held_since < self._settings.beat_s:
            return
        beat = jobs.heartbeat(self._db, self._job_id, self._fence, lease_s=self._settings.lease_s)
        self.lost = self.lost or not beat.alive
        self.cancel_requested = self.cancel_requested or beat.cancel_requested
        self._held_since = began

    def _flush(self) -> None:
        with self._lock:
            news, noted = self._news, self._noted
            self._news = None
        if news is None:
            return
        try:
            self._record(news)
        except Unavailable:
            self._put_back(news)
            raise
        except Exception:  # noqa: BLE001 - what cannot be recorded is dropped
            self._log.exception("could not record what the trainer told")
        self._recorded = noted

    def _put_back(self, news: News) -> None:
        with self._lock:
            self._news = news if self._news is None else news.then(self._news)

    def _record(self, news: News) -> None:
        kept = jobs.record(
            self._db,
            self._job_id,
            self._fence,
            phase=news.phase,
            progress=news.progress,
            metrics=news.metrics,
            timing=news.timing,
            device=news.device,
            dataset_sha256=news.dataset_sha256,
            reports=news.reports,
        )
        self.lost = self.lost or not kept
        if kept and any(isinstance(report, Checkpoint) for report in news.reports):
            self._thin_checkpoints()

    def _thin_checkpoints(self) -> None:
        keep = self._settings.keep_checkpoints
        for folder in jobs.forget_checkpoints(self._db, self._job_id, keep=keep):
            rmtree(self._settings.checkpoints_dir / folder, ignore_errors=True)

    def _look_for_cancel(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_FOR_CANCEL_EVERY_S:
            self._looked_at = now
            self.cancel_requested = job_queries.get(self._db, self._job_id).cancel_requested
