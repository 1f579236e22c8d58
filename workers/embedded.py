"""The one-machine stack behind an API: an embedded broker, the database's tables, one worker per framework."""

import fcntl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog

from models.errors import Conflict, Unavailable
from models.framework import FRAMEWORKS, Framework
from workers import processes
from workers.database import Database
from workers.keeper import Keeper
from workers.settings import Settings
from workers.trainer_environment import default_threads
from workers.valkey import EmbeddedValkey

LOOK_EVERY_S = 0.25
BROKER_PATIENCE_S = 3.0
WORKERS_PATIENCE_S = 4.0
"""On top of the grace that trainers get."""

Command = Callable[[Framework], Sequence[str]]

log = structlog.get_logger(__name__)


def worker_command(framework: Framework) -> list[str]:
    return [sys.executable, "-m", "workers.service", "--framework", framework]


class Stack:
    """Everything but the API. As a context manager: started on entering, all of it gone on leaving.

    `settings` are those that the API must use. A broker that the given settings name is used as it is; else
    Valkey is started with its data in the data folder.
    """

    def __init__(self, settings: Settings, command: Command = worker_command) -> None:
        """`command` makes the command of a framework's worker."""
        own_broker = "broker_url" not in settings.model_fields_set
        self._valkey = EmbeddedValkey(settings.data_dir / "broker") if own_broker else None
        threads = settings.threads or default_threads(settings.slots * len(FRAMEWORKS))
        self.settings = settings.model_copy(update={"threads": threads})
        self._workers = {name: _keeper(name, command(name)) for name in FRAMEWORKS}
        self._folder = _Folder(settings.data_dir)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises Conflict when another stack has the data folder, Unavailable when the broker does not start."""
        self._folder.take()
        try:
            self._start_broker()
            self._migrate()
            for keeper in self._workers.values():
                keeper.start(self.settings.environment())
            self._thread = threading.Thread(target=self._watch, name="stack", daemon=True)
            self._thread.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Workers first, so that they can give their jobs back; the broker last."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._stop_workers()
        finally:
            for keeper in self._workers.values():
                keeper.kill()
            if self._valkey is not None:
                self._valkey.stop(BROKER_PATIENCE_S)
            self._folder.leave()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        found = {framework: keeper.pid for framework, keeper in self._workers.items()}
        broker = {"broker": self._valkey.pid if self._valkey is not None else None}
        return {name: pid for name, pid in (found | broker).items() if pid is not None}

    def _start_broker(self) -> None:
        if self._valkey is not None:
            self._valkey.start()
            self.settings = self.settings.model_copy(update={"broker_url": self._valkey.url})

    def _migrate(self) -> None:
        db = Database(self.settings.database_url)
        try:
            db.migrate()
        finally:
            db.close()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._revive_broker()
            for keeper in self._workers.values():
                keeper.revive(self.settings.environment())

    def _revive_broker(self) -> None:
        if self._valkey is None or self._valkey.pid is not None:
            return
        log.warning("the broker died; starting it again")
        try:
            self._valkey.start()
        except (Unavailable, OSError) as problem:  # OSError: a full disk, perhaps
            log.warning("the broker is still down", problem=str(problem))

    def _stop_workers(self) -> None:
        deadline = time.monotonic() + self.settings.grace_s + WORKERS_PATIENCE_S
        for keeper in self._workers.values():
            keeper.ask_to_end()
        for keeper in self._workers.values():
            keeper.await_end(deadline)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _keeper(framework: Framework, command: Sequence[str]) -> Keeper:
    return Keeper(f"worker {framework}", partial(processes.spawn, command))


class _Folder:
    """The data folder, taken by one stack at a time. The kernel gives it back when the stack dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stack.lock"
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Raises Conflict when it is taken."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            file.close()
            raise Conflict(
                f"Another Tandem runs in {self._path.parent}. Stop it, or choose another data folder."
            ) from problem
        self._file = file

    def leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
