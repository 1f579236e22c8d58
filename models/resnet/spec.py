"""Residual networks for images. Source: He et al. 2015, https://arxiv.org/abs/1512.03385."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Spec, Tensor, batch_norm, convolution, linear
from models.errors import InvalidInput
from models.published import Published, imagenet
from models.signature import ImageInput, Signature, Task

SMALLEST, CIFAR_SIDE = 8, 32
STEM = 64
"""Channels after the first convolution."""
# Channels and stride of the first block of each of the four stages; a bottleneck gives four times as many.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class ResNetSpec(Spec):
    """What the depths have in common: torchvision's ResNet, with its names and weights."""

    architecture: str
    stem: Literal["imagenet", "cifar"] = Field(
        default="imagenet",
        description="'imagenet': 7x7 convolution with stride 2 and max-pooling, as published; 'cifar': 3x3"
        " convolution without pooling, for images of about 32 pixels.",
    )

    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)
    blocks: ClassVar[tuple[int, int, int, int]]
    """Blocks in each stage."""
    expansion: ClassVar[int] = 1
    """4: the blocks are bottlenecks, of 1x1, 3x3 and 1x1 convolutions, the last with four times the channels."""
    checkpoints: ClassVar[tuple[Published, ...]]

    @property
    def features(self) -> int:
        """Channels after the last stage."""
        return STAGES[-1][0] * self.expansion

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

    def published(self) -> tuple[Published, ...]:
        return self.checkpoints if self.stem == "imagenet" else ()

    def image_side(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        return CIFAR_SIDE if self.stem == "cifar" else super().image_side(shapes)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        assert isinstance(signature.input, ImageInput)
        yield from convolution("conv1", signature.input.channels, STEM, 7 if self.stem == "imagenet" else 3)
        yield from batch_norm("bn1", STEM)
        inputs = STEM
        for stage, ((channels, stride), blocks) in enumerate(zip(STAGES, self.blocks, strict=True), start=1):
            for block in range(blocks):
                yield from self._block(f"layer{stage}.{block}", inputs, channels, stride if block == 0 else 1)
                inputs = channels * self.expansion
        yield from linear("fc", inputs, signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 128,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": {"name": "cosine", "warmup_steps": 100},
        }

    def _block(self, name: str, inputs: int, channels: int, stride: int) -> Iterator[Tensor]:
        outputs = channels * self.expansion
        widths = (inputs, channels, outputs) if self.expansion == 1 else (inputs, channels, channels, outputs)
        kernels = (3, 3) if self.expansion == 1 else (1, 3, 1)
        for index, kernel in enumerate(kernels):
            yield from convolution(f"{name}.conv{index + 1}", widths[index], widths[index + 1], kernel)
            yield from batch_norm(f"{name}.bn{index + 1}", widths[index + 1])
        if stride != 1 or inputs != outputs:
            yield from convolution(f"{name}.downsample.0", inputs, outputs, 1)
            yield from batch_norm(f"{name}.downsample.1", outputs)


class ResNet18Spec(ResNetSpec):
    """torchvision's ResNet-18, with its names and weights."""

    architecture: Literal["resnet18"] = "resnet18"

    title: ClassVar[str] = "ResNet-18"
    blocks: ClassVar[tuple[int, int, int, int]] = (2, 2, 2, 2)
    checkpoints: ClassVar[tuple[Published, ...]] = (imagenet("ResNet18_Weights.IMAGENET1K_V1"),)


class ResNet34Spec(ResNetSpec):
    """torchvision's ResNet-34, with its names and weights."""

    architecture: Literal["resnet34"] = "resnet34"

    title: ClassVar[str] = "ResNet-34"
    blocks: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)
    checkpoints: ClassVar[tuple[Published, ...]] = (imagenet("ResNet34_Weights.IMAGENET1K_V1"),)


class ResNet50Spec(ResNetSpec):
    """torchvision's ResNet-50, with its names and weights: bottlenecks whose 3x3 convolution takes the stride."""

    architecture: Literal["resnet50"] = "resnet50"

    title: ClassVar[str] = "ResNet-50"
    blocks: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)
    expansion: ClassVar[int] = 4
    checkpoints: ClassVar[tuple[Published, ...]] = (
        imagenet("ResNet50_Weights.IMAGENET1K_V2"),
        imagenet("ResNet50_Weights.IMAGENET1K_V1"),
    )
