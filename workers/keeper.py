"""Keeps child processes running, with a pause where they die again and again."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from workers import processes

LONGEST_PAUSE_S = 30.0
SETTLED_AFTER_S = 60.0
"""A process that lived so long starts again at once when it dies."""

log = structlog.get_logger(__name__)


class Spawn(Protocol):
    """Starts the process. Raises OSError where the system has no room for another."""

    def __call__(self, *, environment: Mapping[str, str]) -> processes.Process: ...


class Keeper:
    """Keeps one process running. `name` is its name in the log; `on_pause` is told, when it has died, after how many
    seconds it is started again."""

    def __init__(self, name: str, spawn: Spawn, on_pause: Callable[[float], None] | None = None) -> None:
        self._name, self._spawn, self._on_pause = name, spawn, on_pause
        self._process: processes.Process | None = None
        self._began = self._due = 0.0
        self._deaths = 0
        self._asked = False
        self._hung_s: float | None = None

    @property
    def pid(self) -> int | None:
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def start(self, environment: dict[str, str]) -> None:
        self._began = time.monotonic()
        self._asked, self._hung_s = False, None
        self._process = self._spawn(environment=environment)

    def revive(self, environment: dict[str, str]) -> None:
        """Start one that died; the more often it did in a row, the later."""
        if self._process is not None and (status := self._process.poll()) is not None:
            hung = None if self._hung_s is None else f"hung for {self._hung_s:g} s and was killed"
            self._note_death(hung or processes.last_words(status))
        if self._process is None and time.monotonic() >= self._due:
            try:
                self.start(environment)
            except OSError as problem:
                self._note_death(f"could not be started: {problem}")

    def have_stacks_logged(self) -> None:
        """Have the process log where its threads stand, if it has faulthandler do so on SIGUSR2; else it dies."""
        if self._process is not None and not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGUSR2)

    def kill_hung(self, silent_s: float) -> None:
        """Kill a process that has given no sign for so long, without waiting for its end; `revive` starts another."""
        if self._process is not None and self._hung_s is None:
            self._hung_s = silent_s
            processes.signal_all(self._process, signal.SIGKILL)

    def ask_to_end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def await_end(self, deadline: float) -> None:
        if self._process is not None:
            processes.await_end(self._process, deadline - time.monotonic())

    def kill(self) -> None:
        if self._process is not None:
            processes.kill(self._process)

    def _note_death(self, how: str) -> None:
        now = time.monotonic()
        self._deaths = 0 if now - self._began > SETTLED_AFTER_S else self._deaths + 1
        pause_s = min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(self._deaths, 10)) if self._deaths else 0.0
        log.warning("a process died; starting it again", process=self._name, how=how, again_in_s=pause_s)
        self._process, self._due = None, now + pause_s
        if self._on_pause is not None:
            self._on_pause(pause_s)
