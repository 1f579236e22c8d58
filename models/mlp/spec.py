"""A multilayer perceptron."""

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Spec, Tensor, linear
from models.signature import Signature, Task

Width = Annotated[int, Field(ge=1, le=16384)]


class MLPSpec(Spec):
    """Fully connected layers with an activation between them; images are flattened in C, H, W order."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[Width, ...] = Field(
        default=(256,), min_length=1, max_length=16, description="Width of each hidden layer."
    )
    activation: Literal["relu", "gelu", "tanh"] = "relu"

    title: ClassVar[str] = "Multilayer perceptron"
    tasks: ClassVar[tuple[Task, ...]] = (
        "image-classification",
        "tabular-classification",
        "tabular-regression",
    )

    def widths(self, signature: Signature) -> tuple[int, ...]:
        """Units of every layer from input to output."""
        return (prod(signature.input.shape), *self.hidden, signature.outputs)

    def head(self) -> tuple[str, ...]:
        return (f"layers.{len(self.hidden)}.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        for index, (inputs, outputs) in enumerate(pairwise(self.widths(signature))):
            yield from linear(f"layers.{index}", inputs, outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 64,
            "optimizer": {"name": "adamw", "learning_rate": 1e-3},
            "schedule": {"name": "cosine"},
        }
