"""ConvNeXt, a convolutional network in a transformer's shape. Source: Liu et al. 2022, https://arxiv.org/abs/2201.03545."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from models.architecture import (
    Draw,
    Spec,
    Tensor,
    constant,
    convolution,
    layer_norm,
    linear,
    truncated_normal,
)
from models.errors import InvalidInput
from models.published import Published, imagenet
from models.signature import ImageInput, Signature, Task

SMALLEST = 32
KERNEL, EXPANSION = 7, 4
STEM_PATCH, NEXT_PATCH = 4, 2
"""Pixels a side that become one at the start, and between two stages."""
EPSILON, LAYER_SCALE = 1e-6, 1e-6

Depth = Annotated[int, Field(ge=1, le=64)]
Width = Annotated[int, Field(ge=1, le=4096)]
PUBLISHED_DEPTHS, PUBLISHED_WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)


class ConvNeXtSpec(Spec):
    """torchvision's ConvNeXt-Tiny, with its names and weights; other depths and widths make another network."""

    architecture: Literal["convnext_tiny"] = "convnext_tiny"
    depths: tuple[Depth, Depth, Depth, Depth] = Field(
        default=PUBLISHED_DEPTHS, description="Blocks in each of the four stages."
    )
    widths: tuple[Width, Width, Width, Width] = Field(
        default=PUBLISHED_WIDTHS, description="Channels of each stage."
    )
    stochastic_depth: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="How often a sample skips the last block in training; the first is never skipped, and between"
        " them the share rises evenly.",
    )

    title: ClassVar[str] = "ConvNeXt-Tiny"
    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)

    def skipped(self) -> list[list[float]]:
        """How often each block of each stage is skipped."""
        last = sum(self.depths) - 1
        rates = iter([self.stochastic_depth * block / last for block in range(last + 1)])
        return [[next(rates) for _ in range(depth)] for depth in self.depths]

    def check(self, signature: Signature) -> None:
        super().check(signature)
        assert isinstance(signature.input, ImageInput)
        if min(signature.input.height, signature.input.width) < SMALLEST:
            raise InvalidInput(
                f"{self.name!r} makes images 32 times smaller, so it takes them from {SMALLEST}x{SMALLEST} pixels;"
                f" this dataset has {signature.input}. Set 'preprocess.size' to [{SMALLEST}, {SMALLEST}] or more,"
                " or use 'cnn'.",
                pointer="/model/architecture",
                code="shape_mismatch",
            )

    def head(self) -> tuple[str, ...]:
        return ("classifier.2.",)

    def published(self) -> tuple[Published, ...]:
        same = (self.depths, self.widths) == (PUBLISHED_DEPTHS, PUBLISHED_WIDTHS)
        return (imagenet("ConvNeXt_Tiny_Weights.IMAGENET1K_V1"),) if same else ()

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        assert isinstance(signature.input, ImageInput)
        weight, bias = truncated_normal(0.02), constant(0)
        yield from convolution(
            "features.0.0", signature.input.channels, self.widths[0], STEM_PATCH, weight=weight, bias=bias
        )
        yield from layer_norm("features.0.1", self.widths[0])
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if stage > 0:
                yield from layer_norm(f"features.{2 * stage}.0", self.widths[stage - 1])
                name = f"features.{2 * stage}.1"
                yield from convolution(
                    name, self.widths[stage - 1], width, NEXT_PATCH, weight=weight, bias=bias
                )
            for block in range(depth):
                yield from _block(f"features.{2 * stage + 1}.{block}", width, weight, bias)
        yield from layer_norm("classifier.0", self.widths[-1])
        yield from linear("classifier.2", self.widths[-1], signature.outputs, weight=weight, bias=bias)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 128,
            "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
            "schedule": {"name": "cosine", "warmup_steps": 200},
            "label_smoothing": 0.1,
        }


def _block(name: str, width: int, weight: Draw, bias: Draw) -> Iterator[Tensor]:
    yield Tensor(f"{name}.layer_scale", (width, 1, 1), constant(LAYER_SCALE))
    yield from convolution(f"{name}.block.0", width, width, KERNEL, groups=width, weight=weight, bias=bias)
    yield from layer_norm(f"{name}.block.2", width)
    yield from linear(f"{name}.block.3", width, EXPANSION * width, weight=weight, bias=bias)
    yield from linear(f"{name}.block.5", EXPANSION * width, width, weight=weight, bias=bias)
