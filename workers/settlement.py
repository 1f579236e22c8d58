"""How an attempt is settled: its outcome becomes one fenced transition of the job."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TypeVar

import structlog

from models.errors import NotFound, Unavailable
from workers import checkpoints, job_queries, jobs, messages, predictions, references
from workers.artifacts import ArtifactStore
from workers.attempt import Ended, Lost, Outcome
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.jobs import Claim
from workers.ledger import Ledger
from workers.reports import FinishedModel, FinishedPrediction
from workers.settings import Settings

RETRY_EVERY_S = 0.5
LONGEST_BACKOFF_S = 300.0

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class Settlement:
    """Settles one attempt. While the database does not answer, every transition is tried again."""

    def __init__(
        self,
        db: Database,
        store: ArtifactStore,
        settings: Settings,
        claim: Claim,
        ledger: Ledger,
        hurry: Event,
    ) -> None:
        """When `hurry` is set, a database that does not answer is not waited for: the lease will run out."""
        self._db, self._store, self._settings = db, store, settings
        self._claim, self._ledger, self._hurry = claim, ledger, hurry
        self._job = claim.job.id, claim.fence

    def settle(self, outcome: Outcome, dataset: DatasetRecord) -> None:
        match outcome:
            case messages.Result():
                self._finish(outcome, dataset)
            case messages.Scored():
                self._keep_result(outcome)
            case messages.Failed():
                self.fail(outcome)
            case Ended(reason="cancel"):
                self._cancelled()
            case Ended():
                self._release()
            case Lost():
                log.warning("attempt lost; its results are discarded")

    def fail(self, failed: messages.Failed) -> None:
        """Another attempt later, if there is one left and it is worth it; else the job has failed."""
        log.warning("attempt failed", code=failed.code, reason=failed.message)
        self._transit(
            lambda: jobs.attempt_failed(
                self._db,
                *self._job,
                code=failed.code,
                message=failed.message,
                retryable=failed.retryable,
                backoff_s=self._backoff_s(),
            )
        )
        self._thin_checkpoints()

    def _finish(self, result: messages.Result, dataset: DatasetRecord) -> None:
        """Weights first, then the row that names them: a crash between leaves an artifact that nobody knows."""
        artifact = self._store.put(Path(result.weights))
        model = FinishedModel(
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            parameters=result.parameters,
            signature=result.signature,
            classes=dataset.description.classes,
            metrics=result.metrics,
            timing=result.timing,
            stop_reason=result.stop_reason,
            peak_memory_bytes=result.peak_memory_bytes,
        )
        version = self._transit(lambda: jobs.finish(self._db, *self._job, model))
        if version is None:
            log.warning("the finish was refused; the weights are discarded")
            references.discard(self._db, self._store, artifact.sha256)
            return
        log.info("attempt succeeded", model=version.name, version=version.version)
        self._thin_checkpoints()

    def _keep_result(self, scored: messages.Scored) -> None:
        """The file first, then the row that names it, as with weights."""
        artifact = self._store.put(Path(scored.file))
        found = FinishedPrediction(artifact.sha256, artifact.size_bytes, scored.metrics, scored.timing)
        finished = self._transit(lambda: predictions.finish(self._db, *self._job, found))
        if not finished and not self._is_recorded(artifact.sha256):
            log.warning("the finish was refused; the result is discarded")
            references.discard(self._db, self._store, artifact.sha256)
            return
        log.info("prediction succeeded", size_bytes=artifact.size_bytes)
        checkpoints.forget(self._settings.checkpoints_dir, self._claim.job.id)

    def _is_recorded(self, sha256: str) -> bool:
        """Whether the row names this file after all: a commit whose answer was lost is refused when it is repeated."""
        try:
            return job_queries.get(self._db, self._claim.job.id).artifact_sha256 == sha256
        except (NotFound, Unavailable):
            return False

    def _cancelled(self) -> None:
        log.info("attempt cancelled")
        self._transit(lambda: jobs.cancelled(self._db, *self._job))
        self._thin_checkpoints()

    def _release(self) -> None:
        log.info("attempt given back")
        self._transit(lambda: jobs.release(self._db, *self._job, reason="the worker was asked to stop"))

    def _transit(self, transition: Callable[[], Answer]) -> Answer | None:
        """The transition's answer; None also when the job was lost before the database answered."""
        self._ledger.drain()
        while not self._ledger.lost:
            try:
                return transition()
            except Unavailable as problem:
                log.warning("the database does not answer; trying again", problem=problem.detail)
                if self._hurry.wait(RETRY_EVERY_S):
                    break
        return None

    def _backoff_s(self) -> float:
        return min(LONGEST_BACKOFF_S, self._settings.backoff_s * 2.0 ** (self._claim.attempt - 1))

    def _thin_checkpoints(self) -> None:
        """Keep the newest, so that another attempt or another job can go on from here; of a prediction all parts."""
        if self._claim.job.kind == "prediction":
            return
        checkpoints.thin(self._settings.checkpoints_dir, *self._job, keep=self._settings.keep_checkpoints)
