"""Linear and logistic regression: one fully connected layer."""

from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar, Literal

from models.architecture import Spec, Tensor, linear
from models.signature import Signature, Task


class LinearSpec(Spec):
    """One fully connected layer over the flattened input (images in C, H, W order)."""

    architecture: Literal["linear"] = "linear"

    title: ClassVar[str] = "Linear model"
    tasks: ClassVar[tuple[Task, ...]] = (
        "image-classification",
        "tabular-classification",
        "tabular-regression",
    )

    def head(self) -> tuple[str, ...]:
        return ("linear.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        yield from linear("linear", prod(signature.input.shape), signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 64,
            "optimizer": {"name": "adam", "learning_rate": 1e-2},
            "schedule": {"name": "cosine"},
        }
