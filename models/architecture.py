"""What every architecture declares about itself, without a framework."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.errors import InvalidInput
from models.published import IMAGENET_SIDE, Published
from models.signature import Signature, Task

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Tensor:
    """One canonical tensor: torch's `state_dict` name and layout, and how it starts.

    A `statistic` (BatchNorm's running values) takes no gradient. `dtype` is float32 but for counters.
    """

    name: str
    shape: tuple[int, ...]
    draw: Draw
    kind: Literal["parameter", "statistic"] = "parameter"
    dtype: type[np.generic] = np.float32

    @property
    def size(self) -> int:
        return prod(self.shape)


class Spec(BaseModel):
    """An architecture with its options. Subclasses add `architecture: Literal[...]` and typed options."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]

    def check(self, signature: Signature) -> None:
        """Raise InvalidInput if this network cannot take the signature's input or task."""
        if signature.task not in self.tasks:
            raise InvalidInput(
                f"{self.name!r} does not do {signature.task}; it does {', '.join(self.tasks)}."
                " Choose another architecture (GET /architectures lists them) or another dataset.",
                pointer="/model/architecture",
                code="task_mismatch",
            )

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        """Every tensor of the network's `state_dict`, in its order."""
        raise NotImplementedError

    def head(self) -> tuple[str, ...]:
        """Prefixes of the canonical names that belong to the last layers: those that are made anew where the classes
        are others, and that alone learn with `freeze: "backbone"`."""
        raise NotImplementedError

    def in_head(self, name: str) -> bool:
        return name.startswith(self.head())

    def published(self) -> tuple[Published, ...]:
        """Published checkpoints that fit these options, the usual one first."""
        return ()

    def image_side(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """Pixels a side of the images that weights of these shapes are for; None where nothing tells. Unless the
        weights do, it is what published checkpoints are trained on."""
        return IMAGENET_SIDE if any(one.mean for one in self.published()) else None

    def smallest_batch(self, signature: Signature) -> int:
        """The smallest batch that this network can learn from."""
        return 1

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        """What a practitioner would start from: fields of `TrainingSpec`, in its JSON form."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return str(getattr(self, "architecture"))  # noqa: B009 - every subclass declares it

    @property
    def package(self) -> str:
        """The package that holds the twins, e.g. `models.resnet`."""
        return type(self).__module__.rpartition(".")[0]


def constant(value: float) -> Draw:
    return lambda generator, shape: np.full(shape, value)


def uniform(bound: float) -> Draw:
    return lambda generator, shape: generator.uniform(-bound, bound, shape)


def normal(deviation: float) -> Draw:
    return lambda generator, shape: generator.normal(0.0, deviation, shape)


def truncated_normal(deviation: float, bound: float = 2.0) -> Draw:
    """A normal distribution without what lies beyond `bound`, in absolute terms: `torch.nn.init.trunc_normal_`."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        values = generator.normal(0.0, deviation, shape)
        while (beyond := np.abs(values) > bound).any():
            values[beyond] = generator.normal(0.0, deviation, np.count_nonzero(beyond))
        return values

    return draw


def xavier(inputs: int, outputs: int) -> Draw:
    """Glorot & Bengio 2010, uniform: `torch.nn.init.xavier_uniform_` of a weight [outputs, inputs]."""
    return uniform(sqrt(6 / (inputs + outputs)))


def linear(
    name: str, inputs: int, outputs: int, weight: Draw | None = None, bias: Draw | None = None
) -> Iterator[Tensor]:
    """A fully connected layer; where nothing is said, as torch starts it: U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    usual = uniform(1 / sqrt(inputs))
    yield Tensor(f"{name}.weight", (outputs, inputs), weight or usual)
    yield Tensor(f"{name}.bias", (outputs,), bias or usual)


def convolution(
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    groups: int = 1,
    weight: Draw | None = None,
    bias: Draw | None = None,
) -> Iterator[Tensor]:
    """A convolution, with a bias if it is said how that starts.

    Where nothing is said, the weight starts as in He et al. 2015 (arXiv 1502.01852), fan-out, gain for ReLU.
    """
    usual = normal(sqrt(2 / (outputs * kernel * kernel)))
    yield Tensor(f"{name}.weight", (outputs, inputs // groups, kernel, kernel), weight or usual)
    if bias is not None:
        yield Tensor(f"{name}.bias", (outputs,), bias)


def batch_norm(name: str, channels: int) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (channels,), constant(1))
    yield Tensor(f"{name}.bias", (channels,), constant(0))
    yield Tensor(f"{name}.running_mean", (channels,), constant(0), "statistic")
    yield Tensor(f"{name}.running_var", (channels,), constant(1), "statistic")
    yield Tensor(f"{name}.num_batches_tracked", (), constant(0), "statistic", np.int64)


def layer_norm(name: str, size: int) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (size,), constant(1))
    yield Tensor(f"{name}.bias", (size,), constant(0))


def embedding(
    name: str, count: int, size: int, deviation: float = 1.0, padding: int | None = None
) -> Iterator[Tensor]:
    """A vector for each of `count` ids, N(0, deviation); that of the id `padding` starts as zeros."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        values = generator.normal(0.0, deviation, shape)
        if padding is not None:
            values[padding] = 0
        return values

    yield Tensor(f"{name}.weight", (count, size), draw)
