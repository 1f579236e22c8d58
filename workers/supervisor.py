"""The supervisor: claim a job, run one attempt at it in a trainer process, and settle what came of it.

The row in the database is the truth and every change of it is fenced; so a supervisor that was frozen past its
lease may do all of this late without harm.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import structlog

from models.data import dataset as dataset_file
from models.errors import TandemError, Unavailable
from workers import assignments, datasets, jobs, messages
from workers.artifacts import ArtifactStore
from workers.attempt import Attempt
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.jobs import Claim
from workers.ledger import Ledger, News
from workers.settings import Settings
from workers.settlement import Settlement
from workers.spares import Spares

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs jobs, one in each thread that calls `run`."""

    def __init__(
        self, db: Database, store: ArtifactStore, settings: Settings, spares: Spares, worker: str
    ) -> None:
        """`worker` is this worker's id, for the row."""
        self._db, self._store, self._settings, self._spares = db, store, settings, spares
        self._worker = worker
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, int], Attempt] = {}
        """By job and fence: a slot that was frozen past its lease may still have a job that another slot runs."""
        self._draining, self._hurry = threading.Event(), threading.Event()
        self.device: str | None = None
        """What the last attempt ran on, once one has started."""

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs that run now."""
        with self._lock:
            return tuple(dict.fromkeys(job_id for job_id, _ in self._attempts))

    def run(self, job_id: str) -> None:
        """Make one attempt at the job, if it is to be had. Raises Unavailable if the database does not answer."""
        if self._draining.is_set():
            return
        claim = jobs.claim(
            self._db,
            job_id,
            worker=self._worker,
            host=socket.gethostname(),
            lease_s=self._settings.lease_s,
        )
        if claim is not None:
            with structlog.contextvars.bound_contextvars(job_id=job_id, fence=claim.fence):
                self._carry_out(claim)

    def drain(self) -> None:
        """Take no more jobs and give the running ones back at a checkpoint; called again, without one."""
        patience_s = 0.0 if self._draining.is_set() else self._settings.grace_s
        if self._draining.is_set():
            self._hurry.set()
        self._draining.set()
        with self._lock:
            running = tuple(self._attempts.values())
        for attempt in running:
            attempt.stop("shutdown", patience_s)

    def _carry_out(self, claim: Claim) -> None:
        log.info("attempt begins", attempt=claim.attempt)
        ledger = Ledger(self._db, self._settings, claim.job.id, claim.fence)
        settlement = Settlement(self._db, self._store, self._settings, claim, ledger, self._hurry)
        try:
            dataset = datasets.get(self._db, claim.job.dataset_id)
            ledger.note(News(dataset_sha256=dataset.sha256))
            assignment = assignments.assemble(self._db, self._store, self._settings, claim, dataset)
            with self._running(claim, ledger, assignment, dataset) as attempt:
                outcome = attempt.run()
            settlement.settle(outcome, dataset)
        except TandemError as problem:
            settlement.fail(_failure(problem))
        except Exception as problem:
            log.exception("the attempt broke")
            settlement.fail(_breakage(problem))
        finally:
            ledger.close()
            rmtree(self._settings.work_dir / f"{claim.job.id}-{claim.fence}", ignore_errors=True)
            self._spares.refill()

    @contextmanager
    def _running(
        self,
        claim: Claim,
        ledger: Ledger,
        assignment: messages.Work,
        dataset: DatasetRecord,
    ) -> Iterator[Attempt]:
        """An attempt that `drain` reaches."""

        def keep_dataset(path: Path) -> None:
            artifact = self._store.put(path)
            report = dataset_file.read(path).description.report
            datasets.record_prepared(self._db, dataset.name, artifact, report)
            ledger.note(News(dataset_sha256=artifact.sha256))

        attempt = Attempt(
            self._spares.take(),
            ledger,
            assignment,
            on_dataset=keep_dataset,
            on_started=self._note_device,
            on_first_step=self._spares.refill,
            idle_s=self._settings.idle_trainer_s,
        )
        with self._lock:
            self._attempts[claim.job.id, claim.fence] = attempt
        if self._draining.is_set():
            attempt.stop("shutdown", 0.0)
        try:
            yield attempt
        finally:
            with self._lock:
                del self._attempts[claim.job.id, claim.fence]

    def _note_device(self, device: str) -> None:
        self.device = device


def _failure(problem: TandemError) -> messages.Failed:
    retryable = isinstance(problem, Unavailable)
    return messages.Failed(code=problem.specific_code, message=problem.detail, retryable=retryable)


def _breakage(problem: Exception) -> messages.Failed:
    message = f"The worker had a problem: {type(problem).__name__}: {problem}"
    return messages.Failed(code="worker_error", message=message, retryable=True)
