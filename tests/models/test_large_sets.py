"""Training sets larger than memory: they stay in their file, and what comes next is read while a step runs."""

import ctypes
import json
import os
import time
from contextlib import contextmanager
from mmap import PAGESIZE
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from models import engine
from models import training as trainings
from models.data import mapped
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.data.scratch import ScratchRows, read_ahead
from models.engine import Definition
from models.errors import Unavailable
from models.fit import fit
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.job import JobSpec
from models.preprocessing import ImagePreprocessing
from models.scoring.parts import Parts
from models.scoring.run import Run
from models.scoring.spec import ScoringSpec
from models.signature import ImageInput
from models.state import TrainingState
from models.weights import ModelCard

MIB = 1 << 20
SIDE, CHANNELS = 96, 3
ROWS = 2048 * MIB // (SIDE * SIDE * CHANNELS)
CLASSES = 100
SHAPE = (ROWS, SIDE, SIDE, CHANNELS)


def private_bytes():
    """Memory of this process that no file stands behind: what a system short of memory could not take back."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (found,) = [int(line.split()[1]) for line in lines if line.startswith("Anonymous:")]
    return found * 1024


class Watch:
    """An observer that remembers the most private memory."""

    def __init__(self):
        self.peak = 0

    def report(self, report):
        self.peak = max(self.peak, private_bytes())

    def directive(self):
        return None

    def save(self, state):
        pass


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of 2 GiB in a file with holes, which takes no room on the disk but all of it in a copy."""
    path = tmp_path_factory.mktemp("large") / "x.safetensors"
    size = int(np.prod(SHAPE))
    header = json.dumps({"x": {"dtype": "U8", "shape": SHAPE, "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    _, arrays = mapped.read(path)
    return arrays["x"]


def dataset_of(x):
    y = (np.arange(len(x)) % 2).astype(np.int64)
    description = DatasetDescription(
        task="image-classification",
        input=ImageInput(height=SIDE, width=SIDE, channels=CHANNELS),
        classes=("a", "b"),
        splits=Splits(train=len(x), validation=64, test=64),
    )
    third = (1 / 3,) * CHANNELS
    preprocessing = ImagePreprocessing(height=SIDE, width=SIDE, channels=CHANNELS, mean=third, std=third)
    few = Split(x[:64], y[:64])
    return Dataset(description, preprocessing, Split(x, y), few, few)


def job(framework, **training):
    model = {"architecture": "mlp", "hidden": [4]}
    body = {"framework": framework, "dataset": "large", "model": model, "training": training}
    return JobSpec.model_validate_json(json.dumps(body))


class Brightness:
    """`models.engine.Predictor`: the logit of class k is k + 1 times what the first pixel holds."""

    device = "cpu"

    def logits(self, x):
        return (x[:, 0, 0, :1] * np.arange(1, CLASSES + 1)).astype(np.float32)


@contextmanager
def watched():
    """A Watch that looks all the time, in a thread."""
    watch, ended = Watch(), Event()

    def look():
        while not ended.wait(0.005):
            watch.report(None)

    thread = Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_predicting_a_large_set_takes_no_more_memory_than_a_part_of_it(images, tmp_path, format):
    dataset = dataset_of(images)
    card = ModelCard(
        model={"architecture": "linear"},
        signature=dataset.description.signature.model_copy(update={"outputs": CLASSES}),
        preprocessing=dataset.preprocessing,
        classes=None,
    )
    asked = {"model": "m@1", "dataset": "large", "engine": "torch", "precision": "float32", "rows": ROWS}
    spec = ScoringSpec(**asked, split="train", wanted=["labels", "probabilities"], format=format)
    run = Run(Brightness(), card, dataset, spec, Parts(tmp_path / "parts"), part_every_s=3600)
    before = private_bytes()
    with watched() as watch:
        for _ in run.batches():
            pass
        run.write(tmp_path / "result")
    assert len(list((tmp_path / "parts").glob("*.parquet"))) > 2
    assert watch.peak - before < 256 * MIB


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_does_not_read_a_large_set_into_memory(images, framework):
    dataset = dataset_of(images)
    signature = dataset.description.signature
    spec = job(framework, max_steps=20, batch_size=16)
    loaded = engine.load(framework)
    loaded.warm_up("cpu")
    watch, before = Watch(), private_bytes()
    fit(
        loaded,
        Definition(spec.model, signature, dataset.preprocessing.normalisation),
        trainings.resolve(spec.model, spec.training, signature, ROWS),
        dataset,
        TrainingState(initial_weights(spec.model, signature, 0)),
        watch,
        device="cpu",
    )
    assert watch.peak - before < 512 * MIB


# --- what comes next is read while a step runs ----------------------------------------------------------------------


MOST = 0.9
"""Of the rows whose reading was advised: the system may pass over a page, which is then read when it is used."""


def in_memory(x, rows):
    """The share of these rows of a mapped array whose pages are all in the system's cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = 0
    for row in rows.ravel():
        begin = x[row].ctypes.data
        start = begin // PAGESIZE * PAGESIZE
        pages = (ctypes.c_ubyte * -(-(begin + x[row].nbytes - start) // PAGESIZE))()
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(pages) * PAGESIZE), pages) == 0
        found += all(page & 1 for page in pages)
    return found / rows.size


def comes(x, rows):
    """Wait a little for most of them, without reading them; the share that came."""
    end = time.monotonic() + 10
    while (found := in_memory(x, rows)) < MOST and time.monotonic() < end:
        time.sleep(0.005)
    return found


@pytest.fixture
def on_disk(tmp_path):
    """Images in a file of which nothing is in memory."""
    path = tmp_path / "x.safetensors"
    x = np.random.default_rng(0).integers(0, 256, (1200, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    mapped.write(path, {}, {"x": x})
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    _, arrays = mapped.read(path)
    if in_memory(arrays["x"], np.arange(600, 700)) > 1 - MOST:
        pytest.skip("this file system keeps its files in memory")
    return arrays["x"]


def test_rows_that_are_read_ahead_come_without_being_waited_for(on_disk):
    rows = np.arange(400, 1200, 40)
    read_ahead(on_disk, rows)
    assert comes(on_disk, rows) >= MOST
    assert in_memory(on_disk, np.arange(420, 440)) < 1 - MOST


def test_reading_ahead_is_for_files_only():
    read_ahead(np.zeros((4, 3)), np.arange(4))
    read_ahead(np.zeros((4, 3))[:, ::2], np.arange(4))


class Reader:
    """`models.engine.Trainer` that learns nothing, and looks whether its samples are there before it reads them."""

    stride, compile_s, device, resident = 1, 0.0, "cpu", False

    def __init__(self, x):
        self.x, self.found = x, []

    def run(self, segment):
        self.found.append(comes(self.x, segment.indices))
        return Losses(np.ones((segment.steps, 2)))

    def outputs(self, split, batch_size):
        yield np.zeros((64, 2))

    def weights(self):
        return {}

    def slots(self):
        return {}


class Losses:
    """`models.engine.Pending` that is done."""

    def __init__(self, found):
        self.found = found

    def result(self):
        return self.found


class ReadersEngine:
    """`models.engine.Engine` of a Reader."""

    def __init__(self, x):
        self.reader = Reader(x)

    def trainer(self, *given, **options):
        return self.reader


def test_the_samples_of_the_next_steps_are_fetched_before_they_are_needed(on_disk):
    dataset = dataset_of(on_disk)
    signature = dataset.description.signature
    spec = job("torch", max_steps=90, batch_size=32)
    resolved = trainings.resolve(spec.model, spec.training, signature, len(on_disk))
    engine = ReadersEngine(on_disk)
    definition = Definition(spec.model, signature, dataset.preprocessing.normalisation)
    fit(engine, definition, resolved, dataset, TrainingState({}), Watch(), device="cpu")
    assert len(engine.reader.found) >= 3
    assert min(engine.reader.found) >= MOST


def test_more_than_the_disk_has_room_for_is_refused_at_once(tmp_path):
    with pytest.raises(Unavailable, match="disk is full"):
        ScratchRows(tmp_path, 1 << 50, (1,), np.dtype(np.uint8))
    assert list(tmp_path.iterdir()) == []
