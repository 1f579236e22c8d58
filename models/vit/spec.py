"""The vision transformer. Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929."""

from collections.abc import Iterator, Mapping
from math import isqrt, sqrt
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import (
    Spec,
    Tensor,
    constant,
    convolution,
    layer_norm,
    linear,
    normal,
    truncated_normal,
    xavier,
)
from models.errors import InvalidInput
from models.published import Published, imagenet
from models.signature import ImageInput, Signature, Task

EPSILON = 1e-6
PUBLISHED = {
    (16, 12, 12, 768, 3072): imagenet("ViT_B_16_Weights.IMAGENET1K_V1"),
    (32, 12, 12, 768, 3072): imagenet("ViT_B_32_Weights.IMAGENET1K_V1"),
    (16, 24, 16, 1024, 4096): imagenet("ViT_L_16_Weights.IMAGENET1K_V1"),
    (32, 24, 16, 1024, 4096): imagenet("ViT_L_32_Weights.IMAGENET1K_V1"),
}
"""By patch size, layers, heads, hidden and mlp features; all for images of 224x224 pixels."""
FEWEST_PATCHES = 7
"""Patches a side that a suggested patch size gives, where the image is large enough."""


class ViTSpec(Spec):
    """torchvision's vision transformer, by default ViT-B/16, with its names and weights."""

    architecture: Literal["vit"] = "vit"
    patch_size: int = Field(
        default=16, ge=1, le=256, description="Pixels a side of a patch; it divides the image's size."
    )
    layers: int = Field(default=12, ge=1, le=64, description="Encoder layers.")
    heads: int = Field(
        default=12, ge=1, le=64, description="Attention heads; they share the hidden features."
    )
    hidden: int = Field(default=768, ge=1, le=8192, description="Features of a token.")
    mlp: int = Field(default=3072, ge=1, le=32768, description="Units of each layer's hidden layer.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of features that are zeroed in training."
    )

    title: ClassVar[str] = "Vision transformer"
    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)

    def check(self, signature: Signature) -> None:
        super().check(signature)
        assert isinstance(signature.input, ImageInput)
        self._check_heads()
        height, width = signature.input.height, signature.input.width
        if height != width:
            side = min(height, width)
            raise InvalidInput(
                f"'vit' takes square images; this dataset has {signature.input}. Set 'preprocess.size', for"
                f" example to [{side}, {side}].",
                pointer="/model/architecture",
                code="shape_mismatch",
            )
        if height % self.patch_size:
            raise InvalidInput(
                f"Patches of {self.patch_size}x{self.patch_size} pixels do not fill an image of {height}x{width};"
                f" use a patch_size of {_fitting(height, self.patch_size)}, or another 'preprocess.size'.",
                pointer="/model/patch_size",
                code="shape_mismatch",
            )

    def _check_heads(self) -> None:
        if self.hidden % self.heads:
            fitting = max(heads for heads in range(1, self.heads + 1) if self.hidden % heads == 0)
            raise InvalidInput(
                f"{self.heads} heads cannot share {self.hidden} hidden features evenly; use {fitting} heads, or"
                f" {self.hidden - self.hidden % self.heads or self.heads} features.",
                pointer="/model/heads",
            )

    def tokens(self, signature: Signature) -> int:
        """Patches of an image, and the class token."""
        assert isinstance(signature.input, ImageInput)
        return 1 + (signature.input.height // self.patch_size) * (signature.input.width // self.patch_size)

    def head(self) -> tuple[str, ...]:
        return ("heads.head.",)

    def image_side(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """There is a position for each patch, and one for the class token."""
        positions = shapes.get("encoder.pos_embedding", (1, 1))[1]
        return isqrt(positions - 1) * self.patch_size or None

    def published(self) -> tuple[Published, ...]:
        size = (self.patch_size, self.layers, self.heads, self.hidden, self.mlp)
        return (PUBLISHED[size],) if size in PUBLISHED else ()

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        assert isinstance(signature.input, ImageInput)
        channels, hidden = signature.input.channels, self.hidden
        yield Tensor("class_token", (1, 1, hidden), constant(0))
        start = truncated_normal(1 / sqrt(channels * self.patch_size**2))
        yield from convolution("conv_proj", channels, hidden, self.patch_size, weight=start, bias=constant(0))
        yield Tensor("encoder.pos_embedding", (1, self.tokens(signature), hidden), normal(0.02))
        for layer in range(self.layers):
            yield from self._layer(f"encoder.layers.encoder_layer_{layer}")
        yield from layer_norm("encoder.ln", hidden)
        yield from linear("heads.head", hidden, signature.outputs, weight=constant(0), bias=constant(0))

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 128,
            "optimizer": {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.05},
            "schedule": {"name": "cosine", "warmup_steps": 200},
            "gradient_clip_norm": 1.0,
            "label_smoothing": 0.1,
        }

    def _layer(self, name: str) -> Iterator[Tensor]:
        hidden, mlp, attention = self.hidden, self.mlp, f"{name}.self_attention"
        yield from layer_norm(f"{name}.ln_1", hidden)
        yield Tensor(f"{attention}.in_proj_weight", (3 * hidden, hidden), xavier(hidden, 3 * hidden))
        yield Tensor(f"{attention}.in_proj_bias", (3 * hidden,), constant(0))
        yield from linear(f"{attention}.out_proj", hidden, hidden, bias=constant(0))
        yield from layer_norm(f"{name}.ln_2", hidden)
        yield from linear(f"{name}.mlp.0", hidden, mlp, weight=xavier(hidden, mlp), bias=normal(1e-6))
        yield from linear(f"{name}.mlp.3", mlp, hidden, weight=xavier(mlp, hidden), bias=normal(1e-6))


def _fitting(side: int, patch_size: int) -> int:
    """The largest patch that divides the image's side, is no larger than the wanted one, and leaves a few."""
    most = min(patch_size, max(1, side // FEWEST_PATCHES))
    return max(size for size in range(1, most + 1) if side % size == 0)
