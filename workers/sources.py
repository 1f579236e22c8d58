"""The dataset of an attempt, in the process that makes the attempt."""

from functools import partial
from pathlib import Path

from models.data.builtin import BUILTIN
from models.data.dataset import Dataset, read, write
from models.data.inspection import inspected
from models.file_locks import alone
from workers import messages
from workers.observer import Channel

WAITING = messages.Phase(text="waiting for another job that prepares a dataset")


def dataset(assignment: messages.Work, channel: Channel) -> Dataset:
    """The dataset, memory-mapped from its file; a built-in one is made into a file first."""
    source = assignment.dataset
    if isinstance(source, messages.StoredDataset):
        return read(Path(source.path))
    channel.say(messages.Phase(text=f"preparing {source.name}"))
    path = Path(assignment.work_folder) / "dataset.safetensors"
    # Two that fetch one dataset would write the same files.
    with alone(path.parents[1] / "datasets.lock", partial(channel.say, WAITING)):
        write(inspected(BUILTIN[source.name].load(Path(source.folder))), path)
    channel.say(messages.DatasetPrepared(path=str(path)))
    return read(path)
