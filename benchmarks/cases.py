"""Networks at the sizes that they are measured at, and random data for them: speed does not depend on what it shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.architecture import Spec
from models.catalog import architectures
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.preprocessing import ImagePreprocessing, Preprocessing, TextPreprocessing
from models.signature import ImageInput, Input, Signature, Task, TokenInput
from models.training import SGD, AdamW, OptimizerSpec

CLASSES = 10
HELD_OUT = 32


@dataclass(frozen=True)
class Case:
    """A network, its input and batch size.

    steps: as many as take some seconds on two cores. fewest: more than JAX compiles as one, for the clock runs from the
    end of the first piece; that is a single step where there are convolutions.
    """

    architecture: str
    input: Input
    steps: int
    rows: int = 2048
    batch: int = 32
    fewest: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: OptimizerSpec = field(default_factory=AdamW)

    @property
    def spec(self) -> Spec:
        return architectures()[self.architecture].model_validate(
            {"architecture": self.architecture, **self.options}, strict=False
        )

    @property
    def signature(self) -> Signature:
        reads = isinstance(self.input, TokenInput)
        task: Task = "text-classification" if reads else "image-classification"
        return Signature(task=task, input=self.input, outputs=CLASSES)


def _square(side: int, channels: int = 3) -> ImageInput:
    return ImageInput(height=side, width=side, channels=channels)


def _tokens(length: int) -> TokenInput:
    return TokenInput(vocabulary=10_000, length=length, padding=0)


GREY = _square(28, 1)
CASES: Mapping[str, Case] = {
    "mlp": Case("mlp", GREY, steps=2000, rows=60_000, fewest=40),
    "cnn": Case("cnn", GREY, steps=60, rows=60_000),
    "cnn-128": Case("cnn", GREY, steps=20, rows=60_000, batch=128),
    "resnet18": Case("resnet18", _square(32), steps=10, options={"stem": "cifar"}),
    "resnet34": Case("resnet34", _square(32), steps=6, options={"stem": "cifar"}),
    "resnet50": Case("resnet50", _square(64), steps=6),
    "vgg11": Case("vgg11", _square(32), steps=6, optimizer=SGD(learning_rate=1e-3, momentum=0.9)),
    "vgg16": Case("vgg16", _square(32), steps=6, optimizer=SGD(learning_rate=1e-3, momentum=0.9)),
    "convnext": Case(
        "convnext_tiny",
        _square(32),
        steps=96,
        fewest=64,
        options={"depths": (1, 1, 3, 1), "widths": (48, 96, 192, 384)},
    ),
    "vit": Case(
        "vit",
        _square(32),
        steps=96,
        fewest=64,
        options={"patch_size": 4, "layers": 4, "heads": 4, "hidden": 128, "mlp": 512},
    ),
    "bilstm": Case("bilstm", _tokens(200), steps=64, fewest=64, options={"length": 200}),
    "transformer": Case("transformer", _tokens(128), steps=96, fewest=64, options={"length": 128}),
    "distilbert": Case(
        "distilbert",
        _tokens(128),
        steps=96,
        fewest=64,
        options={"length": 128, "layers": 2, "heads": 2, "hidden": 128, "mlp": 512},
    ),
}


def dataset(case: Case) -> Dataset:
    """Random samples of the case's input, uint8 pixels or token ids."""
    generator = np.random.default_rng(0)
    x = _samples(case, generator)
    y = generator.integers(0, CLASSES, case.rows)
    held_out = Split(x[:HELD_OUT], y[:HELD_OUT])
    return Dataset(
        DatasetDescription(
            task=case.signature.task,
            input=case.input,
            classes=tuple(map(str, range(CLASSES))),
            splits=Splits(train=case.rows, validation=HELD_OUT, test=HELD_OUT),
        ),
        _preprocessing(case.input),
        Split(x, y),
        held_out,
        held_out,
    )


def _samples(case: Case, generator: np.random.Generator) -> np.ndarray:
    shape = (case.rows, *case.input.shape)
    if isinstance(case.input, TokenInput):  # none is shorter than the others: both sides compute the same
        return generator.integers(1, case.input.vocabulary, shape, dtype=np.int32)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def _preprocessing(input: Input) -> Preprocessing:
    if isinstance(input, TokenInput):
        return TextPreprocessing(
            tokenizer="{}", length=input.length, padding=input.padding, vocabulary=input.vocabulary
        )
    assert isinstance(input, ImageInput)
    channels = input.channels
    return ImagePreprocessing(
        height=input.height,
        width=input.width,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.29,) * channels,
    )
