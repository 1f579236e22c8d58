"""Tells the fleet that this worker lives."""

import os
import socket
import threading

import structlog

from models.errors import Unavailable
from models.framework import Framework
from workers import fleet
from workers.database import Database
from workers.settings import Settings
from workers.supervisor import Supervisor

log = structlog.get_logger(__name__)


class Presence:
    """A sign of life every beat; it decides nothing about jobs."""

    def __init__(
        self, db: Database, settings: Settings, framework: Framework, worker: str, supervisor: Supervisor
    ) -> None:
        self._db, self._settings, self._framework = db, settings, framework
        self._worker, self._supervisor = worker, supervisor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave the fleet."""
        self._ended.set()
        self._thread.join(self._settings.beat_s)
        try:
            fleet.leave(self._db, self._worker)
        except Unavailable:
            log.warning("could not leave the fleet")

    def _keep(self) -> None:
        self._beat()
        while not self._ended.wait(self._settings.beat_s):
            self._beat()

    def _beat(self) -> None:
        try:
            fleet.beat(
                self._db,
                id=self._worker,
                host=socket.gethostname(),
                pid=os.getpid(),
                framework=self._framework,
                device=self._supervisor.device or self._settings.device,
                slots=self._settings.slots,
                jobs=self._supervisor.jobs,
            )
        except Unavailable as problem:
            log.warning("no sign of life", problem=problem.detail)
        except Exception:  # the next beat may fare better
            log.exception("no sign of life")
