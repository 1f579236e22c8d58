"""One attempt as the supervisor lives it: hand over the assignment, relay reports, end the trainer in time."""

import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from workers import messages, processes
from workers.ledger import Ledger, News
from workers.relay import news
from workers.reports import LogLines
from workers.trainer_process import TrainerProcess
from workers.vigil import Vigil

TICK_S = 0.2
CANCEL_PATIENCE_S = 5.0
"""How long a cancelled trainer may go on before it is killed."""
LAST_OUTPUT_S = 0.5
"""How long a trainer that has told its outcome may take to end, so that all of its output is in the log."""

Reason = Literal["shutdown", "cancel"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ended:
    """The trainer was ended because we wanted it to, at a checkpoint or not."""

    reason: Reason


@dataclass(frozen=True)
class Lost:
    """The job is not ours any more."""


Outcome = messages.Result | messages.Scored | messages.Failed | Ended | Lost


class Attempt:
    """A trainer at work. `run` is called once; `stop` may be called from any thread."""

    def __init__(
        self,
        trainer: TrainerProcess,
        ledger: Ledger,
        assignment: messages.Work,
        *,
        on_dataset: Callable[[Path], None],
        on_started: Callable[[str], None],
        on_first_step: Callable[[], None],
        idle_s: float,
    ) -> None:
        """A trainer that does nothing for `idle_s` before it takes its assignment, or in the middle of its work, is
        ended."""
        self._trainer, self._ledger, self._assignment = trainer, ledger, assignment
        self._on_dataset, self._on_started, self._on_first_step = on_dataset, on_started, on_first_step
        self._log = log.bind(job_id=assignment.job_id, fence=assignment.fence)
        self._lock = threading.Lock()
        self._stopping: Reason | None = None
        self._deadline: float | None = None
        self._started: messages.Started | None = None
        self._outcome: Outcome | None = None
        self._reached: str | None = None
        self._idle_s = idle_s
        self._vigil: Vigil | None = Vigil(trainer.pid, idle_s)

    def run(self) -> Outcome:
        """Live the attempt to its end; the trainer is gone afterwards."""
        try:
            self._trainer.tell(self._assignment)
            with selectors.DefaultSelector() as selector:
                selector.register(self._trainer.reports.descriptor, selectors.EVENT_READ)
                selector.register(self._trainer.log.descriptor, selectors.EVENT_READ)
                while self._outcome is None:
                    selector.select(TICK_S)
                    self._relay_log(selector)
                    self._relay_reports()
                    self._watch()
            return self._outcome
        finally:
            self._finish()

    def stop(self, reason: Reason, patience_s: float) -> None:
        """Ask the trainer to checkpoint and end; kill it after `patience_s`.

        A trainer that has not begun its work has nothing to save and is killed at once.
        """
        with self._lock:
            deadline = time.monotonic() + (patience_s if self._started else 0.0)
            self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
            if self._stopping is None:
                self._stopping = reason
                self._trainer.tell(messages.Stop(reason=reason))

    def _relay_log(self, selector: selectors.BaseSelector | None = None) -> None:
        if lines := self._trainer.log.read():
            text = b"".join(line + b"\n" for line in lines).decode(errors="replace")
            self._ledger.note(News(reports=(LogLines(text),)))
        if self._trainer.log.ended and selector is not None and len(selector.get_map()) > 1:
            selector.unregister(self._trainer.log.descriptor)

    def _relay_reports(self) -> None:
        for line in self._trainer.reports.read():
            self._take(messages.read_report(line))
        if self._trainer.reports.ended and self._outcome is None:
            self._outcome = self._death()

    def _take(self, report: messages.Report) -> None:
        match report:
            case messages.Result() | messages.Scored() | messages.Failed():
                self._outcome = report
            case messages.Stopped():
                self._outcome = Ended(self._stopping or "shutdown")
            case messages.DatasetPrepared():
                self._on_dataset(Path(report.path))
            case messages.FirstStep():
                self._on_first_step()
            case messages.Taken():
                # A download, or the wait for another's, may be silent, and has time limits of its own.
                self._vigil = None
            case messages.Started():
                self._started = report
                self._vigil = Vigil(self._trainer.pid, self._idle_s)
                self._on_started(report.device)
            case messages.Progressed():
                self._reached = f"step {report.step}"
            case messages.RowsScored():
                self._reached = f"{report.rows} rows"
        if (item := news(report, self._started)) is not None:
            self._ledger.note(item)

    def _watch(self) -> None:
        """End the trainer when the job is lost or its time to stop is over."""
        if self._outcome is not None:
            return
        if self._ledger.lost or self._ledger.overdue:
            self._log.warning("the job is lost; ending its trainer", refused=self._ledger.lost)
            self._outcome = Lost()
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self._outcome = Ended(self._stopping or "shutdown")
        elif self._ledger.cancel_requested and self._stopping is None:
            self.stop("cancel", CANCEL_PATIENCE_S)
        elif self._stopping is None and self._vigil and self._vigil.look(self._trainer.received):
            self._outcome = self._stall()

    def _stall(self) -> Outcome:
        """The trainer lives and does nothing."""
        message = f"The trainer process did nothing for {self._idle_s:g} s{self._where()}, and was ended."
        if self._trainer.dump_stacks(LAST_OUTPUT_S):
            message += " Its log says where it stood."
        return messages.Failed(code="trainer_stalled", message=message, retryable=True)

    def _death(self) -> Outcome:
        """The trainer closed its line without an outcome."""
        status = processes.await_end(self._trainer.process, LAST_OUTPUT_S)
        if self._stopping is not None:
            return Ended(self._stopping)
        message = f"The trainer process {processes.last_words(status)}{self._where()}."
        if status == -signal.SIGKILL:
            message += f" {self._assignment.memory_advice}"
        return messages.Failed(code="trainer_died", message=message, retryable=True)

    def _where(self) -> str:
        return f" after {self._reached}" if self._reached else ""

    def _finish(self) -> None:
        if isinstance(self._outcome, messages.Result | messages.Scored | messages.Failed):
            processes.await_end(self._trainer.process, LAST_OUTPUT_S)
        self._trainer.kill()
        self._relay_log()
        self._trainer.close()
