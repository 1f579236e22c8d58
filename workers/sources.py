"""The dataset of an attempt, in the process that makes the attempt."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from models.data.builtin import BUILTIN
from models.data.dataset import Dataset, read, write
from models.data.inspection import inspected
from workers import messages
from workers.observer import Channel

TRY_EVERY_S = 0.1
WORD_EVERY_S = 60.0


def dataset(assignment: messages.Work, channel: Channel) -> Dataset:
    """The dataset, memory-mapped from its file; a built-in one is made into a file first."""
    source = assignment.dataset
    if isinstance(source, messages.StoredDataset):
        return read(Path(source.path))
    channel.say(messages.Phase(text=f"preparing {source.name}"))
    path = Path(assignment.work_folder) / "dataset.safetensors"
    with _alone(path.parents[1] / "datasets.lock", channel):
        write(inspected(BUILTIN[source.name].load(Path(source.folder))), path)
    channel.say(messages.DatasetPrepared(path=str(path)))
    return read(path)


@contextmanager
def _alone(lock: Path, channel: Channel) -> Iterator[None]:
    """Wait while another trainer of this data folder fetches a dataset: both would write the same files.

    Who waits says so now and then, and is not taken for one that hangs.
    """
    with lock.open("ab") as file:
        said_at = -WORD_EVERY_S
        while not _taken(file):
            if time.monotonic() - said_at > WORD_EVERY_S:
                said_at = time.monotonic()
                channel.say(messages.Phase(text="waiting for another job that prepares a dataset"))
            time.sleep(TRY_EVERY_S)
        yield


def _taken(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
