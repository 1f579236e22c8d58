"""The job files in examples/, run small: a few steps of small networks in both frameworks, on stand-ins for the data in
the publishers' formats and from stand-ins for the published weights."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from models import engine, tensor_files
from models.architecture import Spec
from models.checkpoints.choice import chosen
from models.data import dataset as datasets
from models.data.builtin import BUILTIN
from models.framework import FRAMEWORKS, Framework
from models.initial import initial_weights
from models.job import JobSpec
from models.preparation import expected_signature
from models.preparation.text import preprocessing_of
from models.signature import Signature
from models.text_spec import TextSpec
from models.training import resolve
from workers import messages
from workers.observer import Channel, Inbox
from workers.trainer import Trainer

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {path.stem: path for path in sorted(EXAMPLES.glob("*.json"))}
STEPS = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (8,)},
    "cnn": {"width": 4, "stages": 2},
    "vgg16": {"width": 2, "hidden": 8},
    "resnet50": {"stem": "imagenet"},
    "bilstm": {"embedding": 8, "hidden": 8},
    "distilbert": {"layers": 2, "heads": 2, "hidden": 16, "mlp": 16, "length": 64, "positions": 64},
}
"""That make networks small."""
PUBLISHED_WORDS = ["a film , a good film", "a bad film and a long one , nothing is good about it"]
"""What the stand-in for a published tokenizer has seen."""
FEWER_BLOCKS = {"resnet50": (1, 1, 1, 1)}
"""Where no option does."""
PRECISION = {"resnet50": "float32"}
"""Where XLA takes long for float64."""


def small(spec: Spec) -> Spec:
    """The same network, small; its published checkpoints are still those of the large one."""
    kind = type(spec)
    of_large = kind().published()

    class Small(kind):  # type: ignore[misc, valid-type]
        __module__ = kind.__module__  # the twins are looked for beside it
        if spec.name in FEWER_BLOCKS:
            blocks = FEWER_BLOCKS[spec.name]

        def published(self) -> Any:
            return of_large

    return Small(**{**spec.model_dump(), **OPTIONS.get(spec.name, {})})


def write_cifar(root: Path) -> None:
    """The binary version: a byte of label and 3072 of pixels an image."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for file in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = generator.integers(0, 256, (10, 3073), dtype=np.uint8)
        records[:, 0] = range(10)
        records.tofile(folder / file)


def write_imdb(root: Path) -> None:
    """The unpacked archive: a file a review, named by its number and its stars, in a folder by split and class."""
    words = {"pos": "a good film , and a long one", "neg": "a bad film . nothing is good about it"}
    for split in ("train", "test"):
        for label, text in words.items():
            folder = root / "aclImdb" / split / label
            folder.mkdir(parents=True)
            for number in range(12):
                stars = 9 if label == "pos" else 2
                (folder / f"{number}_{stars}.txt").write_text(f"{text} {'very ' * number} {number}")


STAND_INS = {"cifar10": write_cifar, "imdb": write_imdb}


@dataclass(frozen=True)
class Workplace:
    """Where the trainers of this test find data and weights, and the lines to their supervisor."""

    folder: Path
    channel: Channel
    inbox: Inbox

    def dataset(self, name: str) -> Path:
        """The dataset's file, made from the publisher's files."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            files = self.folder / f"{name}-files"
            files.mkdir()
            STAND_INS.get(name, lambda root: None)(files)
            datasets.write(BUILTIN[name].reader(files), path)
        return path

    @property
    def cache(self) -> Path:
        return self.folder / "pretrained"

    def publish(self, spec: Spec, job: JobSpec, signature: Signature) -> None:
        """Weights in the cache as if they had been fetched, with a thousand classes."""
        published = chosen(spec, job.init)
        if published is None:
            return
        folder = self.cache / published.library / re.sub(r"[^A-Za-z0-9._-]+", "--", published.reference)
        if folder.exists():
            return
        folder.mkdir(parents=True)
        wide = signature.model_copy(update={"outputs": 1000})
        if isinstance(spec, TextSpec):
            about = preprocessing_of(PUBLISHED_WORDS, spec, None)
            (folder / "tokenizer.json").write_text(about.tokenizer)
            wide = wide.model_copy(update={"input": about.input})
        tensor_files.write(initial_weights(spec, wide, 9), folder / "weights.safetensors", {})
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        (folder / "complete.json").write_text(json.dumps({"files": files, "made_from": {}}))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reading, _writing = os.pipe()  # never closed while the inbox's thread reads: that would end this process
    silence = os.open(os.devnull, os.O_WRONLY)
    yield Workplace(tmp_path_factory.mktemp("examples"), Channel(silence), Inbox(os.fdopen(reading, "rb")))
    os.close(silence)
    torch.set_num_threads(threads)


def run(
    workplace: Workplace, name: str, framework: Framework
) -> tuple[messages.Result, dict[str, np.ndarray]]:
    """What a trainer makes of the example in `STEPS` steps, and the weights."""
    job = JobSpec.model_validate_json(FILES[name].read_text())
    path = workplace.dataset(job.dataset)
    description = datasets.read(path).description
    spec = small(job.model)
    workplace.publish(spec, job, description.signature)
    changes = {
        "epochs": None,
        "max_steps": STEPS,
        "batch_size": 8,
        "precision": PRECISION.get(spec.name, "float64"),
    }
    asked = job.model_copy(
        update={"framework": framework, "model": spec, "training": job.training.model_copy(update=changes)}
    )
    signature = expected_signature(description, asked)
    training = resolve(spec, asked.training, signature, description.splits.train)
    folder = workplace.folder / f"{name}-{framework}"
    folder.mkdir()
    assignment = messages.Assignment(
        job_id=name,
        fence=1,
        spec=asked.model_copy(update={"training": training}),
        dataset=messages.StoredDataset(path=str(path)),
        device="cpu",
        work_folder=str(folder),
        checkpoint_folder=str(folder / "checkpoints"),
        checkpoint_every_s=1e6,
        pretrained_cache=str(workplace.cache),
    )
    found = Trainer(engine.load(framework), assignment, workplace.channel, workplace.inbox).run()
    assert isinstance(found, messages.Result), found
    return found, load_file(found.weights)


@pytest.mark.parametrize("name", FILES)
def test_every_example_trains_the_same_in_both_frameworks(workplace: Workplace, name: str) -> None:
    (in_torch, torch_weights), (in_jax, jax_weights) = (run(workplace, name, one) for one in FRAMEWORKS)
    assert in_torch.step == in_jax.step == STEPS
    assert torch_weights.keys() == jax_weights.keys()
    if name.startswith(tuple(PRECISION)):
        # Adam's first steps go by the sign of a gradient, and that of a tiny one is chance.
        assert in_torch.metrics["train_loss"] == pytest.approx(in_jax.metrics["train_loss"], rel=1e-3)
        return
    assert in_torch.metrics == pytest.approx(in_jax.metrics, rel=1e-6, abs=1e-9)
    for tensor, array in torch_weights.items():
        np.testing.assert_allclose(jax_weights[tensor], array, rtol=1e-8, atol=1e-9, err_msg=tensor)
