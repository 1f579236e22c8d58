"""Residual networks for images. Source: He et al. 2015, https://arxiv.org/abs/1512.03385."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Spec, Tensor, batch_norm, convolution, linear
from models.errors import InvalidInput
from models.signature import ImageInput, Signature, Task

SMALLEST = 8
# Channels and stride of the first block of each of the four stages.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class ResNetSpec(Spec):
    """torchvision's ResNet-18, with its names and weights."""

    architecture: Literal["resnet18"] = "resnet18"
    stem: Literal["imagenet", "cifar"] = Field(
        default="imagenet",
        description="'imagenet': 7x7 convolution with stride 2 and max-pooling, as published; 'cifar': 3x3"
        " convolution without pooling, for images of about 32 pixels.",
    )

    title: ClassVar[str] = "ResNet-18"
    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """Basic blocks in each stage."""
        return (2, 2, 2, 2)

    def check(self, signature: Signature) -> None:
        super().check(signature)
        assert isinstance(signature.input, ImageInput)
        if min(signature.input.height, signature.input.width) < SMALLEST:
            raise InvalidInput(
                f"{self.name!r} takes images of at least {SMALLEST}x{SMALLEST} pixels; this dataset has"
                f" {signature.input}.",
                pointer="/model/architecture",
                code="shape_mismatch",
            )

    def smallest_batch(self, signature: Signature) -> int:
        """BatchNorm needs two values per channel; where one pixel is left at the end, these are two samples."""
        assert isinstance(signature.input, ImageInput)
        reduction = 32 if self.stem == "imagenet" else 8
        return 2 if max(signature.input.height, signature.input.width) <= reduction else 1

    def head(self) -> tuple[str, ...]:
        return ("fc.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        assert isinstance(signature.input, ImageInput)
        yield from convolution("conv1", signature.input.channels, 64, 7 if self.stem == "imagenet" else 3)
        yield from batch_norm("bn1", 64)
        inputs = 64
        for stage, ((outputs, stride), blocks) in enumerate(zip(STAGES, self.blocks, strict=True), start=1):
            for block in range(blocks):
                yield from _block(f"layer{stage}.{block}", inputs, outputs, stride if block == 0 else 1)
                inputs = outputs
        yield from linear("fc", inputs, signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 128,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": {"name": "cosine", "warmup_steps": 100},
        }


def _block(name: str, inputs: int, outputs: int, stride: int) -> Iterator[Tensor]:
    yield from convolution(f"{name}.conv1", inputs, outputs, 3)
    yield from batch_norm(f"{name}.bn1", outputs)
    yield from convolution(f"{name}.conv2", outputs, outputs, 3)
    yield from batch_norm(f"{name}.bn2", outputs)
    if stride != 1 or inputs != outputs:
        yield from convolution(f"{name}.downsample.0", inputs, outputs, 1)
        yield from batch_norm(f"{name}.downsample.1", outputs)
