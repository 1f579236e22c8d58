"""What a framework must offer to train and to serve. The package `models/frameworks/<framework>/` implements it.

A framework is an import: `engine.load("jax")` is the module, and the module is the engine.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast

import numpy as np

from models.architecture import Spec
from models.errors import NotInstalled
from models.framework import EngineName, Framework
from models.kept_files import KeptFiles
from models.plan import Segment
from models.preprocessing import Normalisation
from models.serving import ServingPrecision
from models.signature import ImageInput, Input, Signature
from models.state import Slots
from models.training import TrainingSpec
from models.weights import Weights

Device = Literal["auto", "cpu", "cuda"]
OPTIONAL: Mapping[EngineName, str] = {"openvino": "openvino"}
"""Packages that an engine needs and that need not be installed; each is an extra of the engine's name."""
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Definition:
    """A network, what it takes, and the normalisation of its raw input, (x - mean) * inverse_std; None for tokens,
    which go in as they are."""

    spec: Spec
    signature: Signature
    normalisation: Normalisation | None


@dataclass(frozen=True)
class Samples:
    """One split in the model's units.

    x: uint8 [N, H, W, C], float32 [N, F] or int32 token ids [N, T], raw (may be memory-mapped). y: int32 [N] class
    indices, or float32 [N], the standardised target of a regression.
    """

    x: np.ndarray
    y: np.ndarray


class Pending(Protocol):
    """Results of steps that were handed to the device and may not be done."""

    def result(self) -> np.ndarray:
        """Wait; float64 [S, 2]: each step's mean loss (the objective, label smoothing included), and how many
        of its samples were classified correctly (for a regression: the sum of absolute errors)."""
        ...


class Trainer(Protocol):
    """A network with its optimizer on a device, at some step of a run."""

    stride: int
    """Steps compiled as one. Segments start at multiples of it within an epoch, so that a resumed run executes
    the very same compiled pieces."""
    device: str
    """The device for people, e.g. 'cpu' or 'cuda:0 (NVIDIA H100)'."""
    compile_s: float
    """Seconds spent compiling so far."""
    resident: bool
    """Whether the device has a copy of the training samples. If not, each step reads its own from where they lie,
    which may be a file."""

    def run(self, segment: Segment) -> Pending:
        """Hand the segment's steps to the device. Raises OutOfMemory."""
        ...

    def outputs(self, split: SplitName, batch_size: int) -> Iterator[np.ndarray]:
        """Logits of a split in its order, in evaluation mode; float32 or float64 [<= batch_size, K] each."""
        ...

    def weights(self) -> Weights:
        """Copies of the canonical tensors as they are now."""
        ...

    def slots(self) -> Slots:
        """Copies of the optimizer's slots in canonical names and layouts, `{"exp_avg": {"fc.weight": ...}}`."""
        ...

    def load_weights(self, weights: Weights) -> None:
        """Replace the weights (for evaluating the best ones); the optimizer stays."""
        ...


def is_normalised(x: np.ndarray, input: Input) -> bool:
    """Whether these samples are images as the network itself takes them: raw ones are whole numbers."""
    return isinstance(input, ImageInput) and x.dtype == np.float32


class Predictor(Protocol):
    """A network with fixed weights, in evaluation mode. Safe to call from several threads at once."""

    device: str

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 [B, K].

        x: raw samples, uint8 [B, H, W, C], float32 [B, F] or int32 token ids [B, T]; or images that are normalised
        already, float32 [B, C, H, W] (see `is_normalised`).
        """
        ...

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        """Compile what batches of up to so many samples of this shape, [...], need. It may take long, in a thread of
        its own; `logits` goes on meanwhile with what there is."""
        ...


class Server(Protocol):
    """A module that computes predictions."""

    def predictor(
        self,
        definition: Definition,
        weights: Weights,
        *,
        device: Device = "cpu",
        precision: ServingPrecision = "float32",
        kept: KeptFiles | None = None,
        cores: int | None = None,
    ) -> Predictor:
        """A predictor of these weights. What takes long to make of them may be kept in `kept`. `cores` are for all
        batches of this process together (None: all that it may use); how many threads a framework has for one batch is
        for the process's environment to say.

        Raises NotSupported where it cannot run the network, and EngineUnavailable where it cannot do so now.
        """
        ...


class Engine(Server, Protocol):
    """A framework's module."""

    def warm_up(self, device: Device) -> None:
        """Touch the device, so that a waiting process has paid for the first use."""
        ...

    def trainer(
        self,
        definition: Definition,
        training: TrainingSpec,
        splits: Mapping[SplitName, Samples],
        weights: Weights,
        slots: Slots,
        step: int,
        *,
        device: Device = "auto",
    ) -> Trainer:
        """A trainer that has done `step` steps; empty `slots` start the optimizer afresh.

        `training` is resolved: no field is None that has a default.
        """
        ...


def load(framework: Framework) -> Engine:
    """The framework's engine, imported on first use."""
    return cast(Engine, import_module(f"models.frameworks.{framework}"))


def is_installed(name: EngineName) -> bool:
    """Whether the packages are there that this engine needs besides Tandem's own."""
    return name not in OPTIONAL or find_spec(OPTIONAL[name]) is not None


def load_server(name: EngineName) -> Server:
    """What computes predictions under this name, imported on first use. Raises NotInstalled."""
    if not is_installed(name):
        raise NotInstalled(
            f"The engine {name!r} needs a package that this server lacks: pip install 'tandem[{name}]'.",
            pointer="/engine",
        )
    try:
        return cast(Server, import_module(f"models.frameworks.{name}"))
    except ImportError as error:
        if name not in OPTIONAL:
            raise
        raise NotInstalled(
            f"The engine {name!r} cannot be used, for its package does not import here: {error}",
            pointer="/engine",
        ) from error


def stop_servers() -> None:
    """End what imported engines have running beside this process, for good: it is about to end."""
    for name in OPTIONAL:
        if (module := sys.modules.get(f"models.frameworks.{name}")) is not None and hasattr(module, "stop"):
            module.stop()
