"""Training sets larger than memory: they stay in their file, and what comes next is read while a step runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import engine
from models import training as trainings
from models.data import mapped
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.engine import Definition
from models.fit import fit
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.job import JobSpec
from models.preprocessing import ImagePreprocessing
from models.signature import ImageInput
from models.state import TrainingState

MIB = 1 << 20
SIDE, CHANNELS = 96, 3
ROWS = 2048 * MIB // (SIDE * SIDE * CHANNELS)
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


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_does_not_read_a_large_set_into_memory(images, framework):
    dataset = dataset_of(images)
    signature = dataset.description.signature
    body = {
        "framework": framework,
        "dataset": "large",
        "model": {"architecture": "mlp", "hidden": [4]},
        "training": {"max_steps": 20, "batch_size": 16},
    }
    spec = JobSpec.model_validate_json(json.dumps(body))
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
