"""A small BatchNorm convolutional network for small images."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Spec, Tensor, batch_norm, convolution, linear
from models.errors import InvalidInput
from models.signature import ImageInput, Signature, Task

SMALLEST, LARGEST = 8, 64


class CNNSpec(Spec):
    """Stages of two 3x3 convolutions, each with BatchNorm and ReLU, then 2x2 max-pooling; the width doubles
    from stage to stage; global average pooling and one linear layer at the end."""

    architecture: Literal["cnn"] = "cnn"
    width: int = Field(default=32, ge=4, le=512, description="Channels of the first stage.")
    stages: int = Field(default=3, ge=1, le=4, description="How often the image is halved.")

    title: ClassVar[str] = "Small convolutional network"
    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)

    def check(self, signature: Signature) -> None:
        super().check(signature)
        assert isinstance(signature.input, ImageInput)
        height, width = signature.input.height, signature.input.width
        if not (SMALLEST <= min(height, width) and max(height, width) <= LARGEST):
            raise InvalidInput(
                f"'cnn' takes images from {SMALLEST}x{SMALLEST} to {LARGEST}x{LARGEST} pixels;"
                f" this dataset has {height}x{width}. Use 'resnet18' for larger images.",
                pointer="/model/architecture",
                code="shape_mismatch",
            )
        if min(height, width) < 2**self.stages:
            raise InvalidInput(
                f"{self.stages} stages halve a {height}x{width} image to nothing; use at most"
                f" {min(height, width).bit_length() - 1}.",
                pointer="/model/stages",
                code="shape_mismatch",
            )

    def channels(self, signature: Signature) -> tuple[int, ...]:
        """Channels of the input and after every stage."""
        assert isinstance(signature.input, ImageInput)
        return (signature.input.channels, *(self.width << stage for stage in range(self.stages)))

    def head(self) -> tuple[str, ...]:
        return ("fc.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        channels = self.channels(signature)
        for index, (inputs, outputs) in enumerate(pairwise(channels)):
            stage = f"stages.{index}"
            yield from convolution(f"{stage}.conv1", inputs, outputs, 3)
            yield from batch_norm(f"{stage}.bn1", outputs)
            yield from convolution(f"{stage}.conv2", outputs, outputs, 3)
            yield from batch_norm(f"{stage}.bn2", outputs)
        yield from linear("fc", channels[-1], signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 64,
            "optimizer": {"name": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-2},
            "schedule": {"name": "cosine", "warmup_steps": 20},
        }
