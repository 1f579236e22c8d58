"""The dataset of an attempt, in the process that makes the attempt."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.data.builtin import BUILTIN
from models.data.dataset import Dataset, read, write
from models.data.inspection import inspected
from workers import messages
from workers.observer import Channel


def dataset(assignment: messages.Work, channel: Channel) -> Dataset:
    """The dataset, memory-mapped from its file; a built-in one is made into a file first."""
    source = assignment.dataset
    if isinstance(source, messages.StoredDataset):
        return read(Path(source.path))
    channel.say(messages.Phase(text=f"preparing {source.name}"))
    path = Path(assignment.work_folder) / "dataset.safetensors"
    with _alone(path.parents[1] / "datasets.lock"):
        write(inspected(BUILTIN[source.name].load(Path(source.folder))), path)
    channel.say(messages.DatasetPrepared(path=str(path)))
    return read(path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait while another trainer of this data folder fetches a dataset: both would write the same files."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
