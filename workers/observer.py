"""The trainer's ends of its two lines, and what it does while `fit` runs: report, checkpoint, obey."""

import os
import threading
import time
import traceback
from math import ceil
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from models import reports
from models.state import TrainingState, save_state
from workers import messages


class Channel:
    """The line up to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, report: messages.Report) -> None:
        """Send the report; waits while the pipe is full."""
        rest = report.line()
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


class Inbox:
    """The line down from the supervisor, read in a thread of its own.

    When it closes the supervisor is gone, and so is this process at once: nobody would take its result. A command that
    it does not know, as another version of the supervisor may give, ends it too.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stop: messages.Stop | None = None
        self._stream = stream
        self._assignments: SimpleQueue[messages.Work] = SimpleQueue()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def assignment(self) -> messages.Work:
        """Wait for it."""
        return self._assignments.get()

    def _read(self) -> None:
        try:
            for line in self._stream:
                self._take(messages.read_command(line))
        except Exception:  # noqa: BLE001 - whatever it is: without this thread nobody could stop the process
            traceback.print_exc()
        finally:
            os._exit(1)

    def _take(self, command: messages.Command) -> None:
        if isinstance(command, messages.Stop):
            self.stop = command
        else:
            self._assignments.put(command)


class Witness:
    """An Observer of `fit` that tells the supervisor."""

    def __init__(self, assignment: messages.Assignment, channel: Channel, inbox: Inbox, began: float) -> None:
        self._assignment, self._channel, self._inbox = assignment, channel, inbox
        self._began = began
        self._saved = time.monotonic()
        self._steps_per_epoch = 1

    def report(self, event: reports.Report) -> None:
        match event:
            case reports.Started():
                self._started(event)
            case reports.Progress():
                self._progress(event)
            case reports.MetricPoint():
                self._channel.say(
                    messages.Measured(
                        span=event.kind, step=event.step, epoch=ceil(event.epoch), values=event.values
                    )
                )
            case reports.Phase():
                self._channel.say(messages.Phase(text=event.text))

    def directive(self) -> reports.Directive:
        if self._inbox.stop is not None:
            return "stop"
        due = time.monotonic() - self._saved > self._assignment.checkpoint_every_s
        return "checkpoint" if due else "continue"

    def save(self, state: TrainingState) -> None:
        folder = Path(self._assignment.checkpoint_folder) / str(state.step)
        if not (folder / "manifest.json").exists():
            save_state(state, folder)
            self._channel.say(
                messages.CheckpointWritten(
                    folder=str(folder),
                    step=state.step,
                    epoch=ceil(state.step / self._steps_per_epoch),
                    size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
                )
            )
        self._saved = time.monotonic()

    def _started(self, event: reports.Started) -> None:
        self._steps_per_epoch = event.steps_per_epoch
        self._saved = time.monotonic()
        self._channel.say(
            messages.Started(
                device=event.device,
                step=event.step,
                total_steps=event.total_steps,
                epochs=event.epochs,
                setup_s=time.monotonic() - self._began,
            )
        )

    def _progress(self, event: reports.Progress) -> None:
        if event.first:
            self._channel.say(messages.FirstStep(compile_s=event.compile_s))
            self._channel.say(messages.Phase(text="training"))
        self._channel.say(
            messages.Progressed(epoch=ceil(event.epoch), step=event.step, samples_per_s=event.samples_per_s)
        )
