"""The reconciler: attempts whose worker is lost, messages that were lost, and files that nobody needs.

It runs in every API process. No leader is needed: each of its statements is safe from several at once.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from shutil import rmtree
from typing import Any

import structlog

from models.errors import NotFound, Unavailable
from models.framework import FRAMEWORKS, Framework
from workers import broker, comparisons, dispatch, fleet, idempotency, job_queries, program_cache, references
from workers.artifacts import ArtifactStore, remove_idle
from workers.database import Database
from workers.settings import Settings

CLEAN_EVERY_S = 3600.0
COMPARE_EVERY_S = 0.5
"""While a comparison runs: how soon its next job is made."""
FORGET_WORKERS_AFTER_S = 86400.0
KEEP_SCRATCH_S = 86400.0

log = structlog.get_logger(__name__)


class Reconciler:
    """A thread that sweeps every `reconcile_every_s` seconds."""

    def __init__(self, db: Database, store: ArtifactStore, settings: Settings) -> None:
        self._db, self._store, self._settings = db, store, settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="reconciler", daemon=True)
        self._cleaned_at = time.monotonic()
        self._pause_s = settings.reconcile_every_s

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no sweep is under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self) -> None:
        """Give up lost attempts, go on with comparisons, then send again what may not have been sent. Raises
        Unavailable."""
        for lost in dispatch.expire_leases(self._db):
            log.warning("lease expired", job_id=lost.job_id, status=lost.status)
        self._compare()
        stale = dispatch.stale_queued(self._db, self._settings.redispatch_s)
        claimable = dispatch.claimable(self._db)
        for framework in FRAMEWORKS:
            job_ids = [job_id for job_id, its in stale if its == framework]
            self._send(framework, job_ids, claimable.get(framework, 0))

    def clean(self) -> None:
        """Delete what crashes left behind and what is long over. Raises Unavailable."""
        references.sweep(self._db, self._store)
        self._store.clean(KEEP_SCRATCH_S)
        remove_idle(self._settings.uploads_dir, KEEP_SCRATCH_S)
        fleet.prune(self._db, FORGET_WORKERS_AFTER_S)
        idempotency.prune(self._db)
        self._clean_work()
        program_cache.make_room(self._settings)

    def _keep(self) -> None:
        # A laptop may never be up for as long as `clean` waits.
        self._try(partial(program_cache.make_room, self._settings))
        while not self._ended.wait(self._pause_s):
            self._try(self._turn)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Unavailable as problem:
            log.warning("sweep put off", problem=problem.detail)
        except Exception:  # the next sweep may fare better, and without sweeps lost jobs stay lost
            log.exception("sweep failed")

    def _turn(self) -> None:
        # Not at the start, where it would hold up the first prediction.
        broker.prepare(self._settings)
        self.sweep()
        self._clean_if_due()

    def _clean_if_due(self) -> None:
        if time.monotonic() - self._cleaned_at > CLEAN_EVERY_S:
            self._cleaned_at = time.monotonic()
            self.clean()

    def _compare(self) -> None:
        running = comparisons.advance(self._db, self._settings.max_attempts)
        every_s = self._settings.reconcile_every_s
        self._pause_s = min(every_s, COMPARE_EVERY_S) if running else every_s
        for one in running:
            if one.had_all_jobs:
                self._finish(one.comparison_id)

    def _finish(self, comparison_id: str) -> None:
        # Imported here: reading results takes libraries that a server without comparisons does without.
        from workers import agreement

        found: list[dict[str, Any]] = []
        try:
            found = agreement.of(self._db, self._store, comparisons.jobs_of(self._db, comparison_id))
        except Unavailable:
            raise
        except Exception:  # the figures of its jobs are worth as much without
            log.exception("agreement not known", comparison_id=comparison_id)
        comparisons.finish(self._db, comparison_id, found)

    def _send(self, framework: Framework, job_ids: list[str], claimable: int) -> None:
        """Publish the jobs again, but no more messages than the queue lacks: a job may just be waiting its turn."""
        if not job_ids or (waiting := broker.backlog(self._settings, framework)) is None:
            return
        for job_id in job_ids[: max(0, claimable - waiting)]:
            if not broker.publish(self._settings, framework, job_id):
                return
            dispatch.mark_dispatched(self._db, job_id)

    def _clean_work(self) -> None:
        """Scratch folders of attempts that are over: their worker was killed before it could."""
        for folder in self._settings.work_dir.glob("*_*-*"):
            job_id, _, fence = folder.name.rpartition("-")
            try:
                job = job_queries.get(self._db, job_id)
                over = job.finished or str(job.fence) != fence
            except NotFound:
                over = True
            if over:
                rmtree(folder, ignore_errors=True)
