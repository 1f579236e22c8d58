"""A trainer kept waiting with its framework imported, so that a job's first step does not pay for that."""

import threading
from collections.abc import Mapping, Sequence

import structlog

from workers.trainer_process import TrainerProcess

LOOK_EVERY_S = 0.25
LONGEST_PAUSE_S = 60.0

log = structlog.get_logger(__name__)


class Spares:
    """Keeps one spare trainer. Safe to call from several threads."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, keep: bool = True) -> None:
        """`keep` False: every trainer is started when it is needed."""
        self._command, self._environment = command, environment
        self._keep = keep
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._spare: TrainerProcess | None = None
        self._deaths = 0
        self._thread = threading.Thread(target=self._watch, name="spares", daemon=True)

    def start(self) -> None:
        """Start the first spare and watch over it."""
        self.refill()
        self._thread.start()

    def take(self) -> TrainerProcess:
        """The spare, ready or still importing; a new trainer if there is none."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and spare.alive:
            return spare
        if spare is not None:
            self._bury(spare)
        return TrainerProcess(self._command, self._environment)

    def refill(self) -> None:
        """See that a spare is there. Called once a taken trainer needs the cores for itself no longer.

        One that cannot be started is tried again at the next call: nobody who has a trainer fails for want of a spare.
        """
        with self._lock:
            if self._keep and self._spare is None and not self._ended.is_set():
                try:
                    self._spare = TrainerProcess(self._command, self._environment)
                except OSError as problem:
                    log.warning("a spare trainer could not be started", problem=str(problem))

    def stop(self) -> None:
        """End the spare and keep none from now on."""
        self._ended.set()
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    @property
    def pid(self) -> int | None:
        """The spare's process."""
        with self._lock:
            return self._spare.pid if self._spare is not None else None

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            if (dead := self._take_dead()) is not None:
                self._bury(dead)
                if self._ended.wait(self._pause()):
                    return
                self.refill()

    def _take_dead(self) -> TrainerProcess | None:
        with self._lock:
            if self._spare is None or self._spare.alive:
                return None
            dead, self._spare = self._spare, None
            return dead

    def _pause(self) -> float:
        """Doubles with every death, so that a broken installation does not keep the machine busy."""
        self._deaths += 1
        return float(min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(self._deaths, 10)))

    def _bury(self, dead: TrainerProcess) -> None:
        last_lines = b" | ".join(dead.log.read()[-3:]).decode(errors="replace")
        log.warning("a spare trainer died", status=dead.process.returncode, said=last_lines)
        dead.close()
