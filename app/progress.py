"""Jobs as people watch them: live bars on a terminal, lines in a pipe."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from queue import SimpleQueue
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.client import Tandem, TandemAPIError
from app.replies import Job, JobEvent

SHOWN = (
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "validation_rmse",
    "test_accuracy",
    "test_rmse",
)

Inbox = SimpleQueue[tuple[str, JobEvent | TandemAPIError]]


class Board(Protocol):
    """Where progress is shown; each job has a short label."""

    def show(self, label: str, event: JobEvent) -> None: ...
    def __enter__(self) -> Board: ...
    def __exit__(self, *problem: Any) -> None: ...


def watch(tandem: Tandem, jobs: Mapping[str, Job], console: Console) -> dict[str, Job]:
    """Show these jobs, by label, until all are done; returns them as they ended.

    Raises TandemAPIError when the server stays away.
    """
    inbox: Inbox = SimpleQueue()
    for label, job in jobs.items():
        threading.Thread(target=_feed, args=(tandem, label, job.id, inbox), daemon=True).start()
    waiting = set(jobs)
    board: Board = Bars(console, jobs) if console.is_terminal else Lines(console)
    with board:
        while waiting:
            label, event = inbox.get()
            if isinstance(event, TandemAPIError):
                raise event
            board.show(label, event)
            if event.type == "done":
                waiting.discard(label)
    return {label: tandem.job(job.id) for label, job in jobs.items()}


def watch_one(events: Iterable[JobEvent], label: str, console: Console) -> None:
    """Show one job or prediction until its events end."""
    board: Board = Bars(console, {label: None}) if console.is_terminal else Lines(console)
    with board:
        for event in events:
            board.show(label, event)


def _feed(tandem: Tandem, label: str, job_id: str, inbox: Inbox) -> None:
    try:
        for event in tandem.follow(job_id):
            inbox.put((label, event))
    except TandemAPIError as problem:
        inbox.put((label, problem))
    except RuntimeError:  # the client was closed: nobody watches any more
        return


class Bars:
    """One live bar a job."""

    def __init__(self, console: Console, labels: Mapping[str, object]) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._bars: dict[str, TaskID] = {
            label: self._progress.add_task(label, total=None, note="queued") for label in labels
        }
        self._notes: dict[str, str] = {}

    def show(self, label: str, event: JobEvent) -> None:
        bar, data = self._bars[label], event.data
        if event.type == "progress":
            done, total = ("rows", "total_rows") if "rows" in data else ("step", "total_steps")
            self._progress.update(bar, completed=data[done], total=data[total])
        elif note := _note(event):
            self._progress.update(bar, note=note)
        if event.type == "done":
            self._progress.stop_task(bar)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._progress.stop()


class Lines:
    """One line for each thing worth telling."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, str] = {}

    def show(self, label: str, event: JobEvent) -> None:
        note = _note(event)
        if event.type == "metric" and not any(name.startswith(("validation", "test")) for name in event.data):
            return  # one line for each epoch is enough
        if note and note != self._last.get(label):
            self._last[label] = note
            self._console.print(f"{label}: {note}", markup=False, soft_wrap=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *problem: Any) -> None:
        return None


def _note(event: JobEvent) -> str | None:
    """The event in a few words; None when it says nothing that a bar does not."""
    data = event.data
    if event.type == "metric":
        values = [
            f"{name.replace('_', ' ')} {data[name]:.4g}" for name in SHOWN if data.get(name) is not None
        ]
        return ", ".join([f"epoch {data['epoch']}", *values]) if values else None
    if event.type in ("status", "done"):
        return str(data.get("phase") or data.get("status") or "") or None
    return None
