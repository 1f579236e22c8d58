"""Two attempts that need a dataset's files at once: one fetches, the other waits and says so."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.data import dataset as datasets
from workers import messages, sources
from workers.observer import Channel


@pytest.fixture
def pipe() -> Iterator[tuple[Channel, int]]:
    reading, writing = os.pipe()
    yield Channel(writing), reading
    os.close(reading)
    os.close(writing)


@contextmanager
def fetching(folder: Path) -> Iterator[None]:
    """As another process does."""
    with (folder / "datasets.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def next_said(reading: int) -> list[messages.Report]:
    return [messages.read_report(line) for line in os.read(reading, 1 << 16).splitlines()]


def test_one_that_waits_for_another_says_so(tmp_path: Path, pipe: tuple[Channel, int]) -> None:
    channel, reading = pipe
    work = tmp_path / "job_1-1"
    work.mkdir()
    dataset = messages.BuiltinDataset(name="digits", folder=str(tmp_path))
    assignment = messages.ScoringAssignment.model_construct(dataset=dataset, work_folder=str(work))
    made: list[datasets.Dataset] = []
    thread = threading.Thread(target=lambda: made.append(sources.dataset(assignment, channel)), daemon=True)
    with fetching(tmp_path):
        thread.start()
        said: list[str] = []
        while len(said) < 2:
            said += [report.text for report in next_said(reading) if isinstance(report, messages.Phase)]
        assert not made
    assert said == ["preparing digits", "waiting for another job that prepares a dataset"]
    thread.join(60)
    assert made[0].description.classes == tuple("0123456789")
    assert messages.DatasetPrepared(path=str(work / "dataset.safetensors")) in next_said(reading)
