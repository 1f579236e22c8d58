"""ConvNeXt in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, C channels, K classes.
Source: Liu et al. 2022, https://arxiv.org/abs/2201.03545; names follow torchvision.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.convnext.spec import EPSILON, EXPANSION, KERNEL, NEXT_PATCH, STEM_PATCH, ConvNeXtSpec
from models.frameworks.jax.convolutions import DepthwiseConvolution, PatchConvolution
from models.frameworks.jax.layers import (
    GELU,
    DType,
    LayerNorm,
    TorchParam,
    linear,
    master_dtype,
)
from models.frameworks.jax.noise import StochasticDepth
from models.frameworks.jax.pooling import global_average_pool
from models.signature import ImageInput, Signature


class Permute(nnx.Module):
    """Where torch moves the channels to the end or back; here they always are at the end."""

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        return x_BHWC


class CNBlock(nnx.Module):
    def __init__(self, width: int, skipped: float, dtype: DType) -> None:
        self.block = nnx.List(
            [
                DepthwiseConvolution(width, KERNEL, dtype),
                Permute(),
                LayerNorm(width, dtype, epsilon=EPSILON),
                linear(width, EXPANSION * width, dtype),
                GELU(),
                linear(EXPANSION * width, width, dtype),
                Permute(),
            ]
        )
        self.layer_scale = TorchParam(jnp.zeros((width, 1, 1), master_dtype(dtype)))
        self.stochastic_depth = StochasticDepth(skipped)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        y_BHWC = x_BHWC
        for module in self.block:
            y_BHWC = module(y_BHWC)
        scale_C = self.layer_scale[...].astype(y_BHWC.dtype).reshape(-1)
        return x_BHWC + self.stochastic_depth(y_BHWC * scale_C, training)


class ConvNeXt(nnx.Module):
    def __init__(self, spec: ConvNeXtSpec, channels: int, classes: int, dtype: DType) -> None:
        first, last = spec.widths[0], spec.widths[-1]
        stem = [
            PatchConvolution(channels, first, STEM_PATCH, dtype),
            LayerNorm(first, dtype, epsilon=EPSILON),
        ]
        self.features = nnx.List([nnx.List(stem)])
        for stage, (width, skipped) in enumerate(zip(spec.widths, spec.skipped(), strict=True)):
            if stage > 0:
                before = spec.widths[stage - 1]
                norm = LayerNorm(before, dtype, epsilon=EPSILON)
                self.features.append(nnx.List([norm, PatchConvolution(before, width, NEXT_PATCH, dtype)]))
            self.features.append(nnx.List([CNBlock(width, rate, dtype) for rate in skipped]))
        self.classifier = nnx.List(
            [LayerNorm(last, dtype, epsilon=EPSILON), Permute(), linear(last, classes, dtype)]
        )

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        for part in self.features:
            for module in part:
                x_BHWC = module(x_BHWC, training) if isinstance(module, CNBlock) else module(x_BHWC)
        norm, _, linear_ = self.classifier
        logits_BK: jax.Array = linear_(norm(global_average_pool(x_BHWC)))
        return logits_BK


def build(spec: ConvNeXtSpec, signature: Signature, dtype: DType) -> ConvNeXt:
    assert isinstance(signature.input, ImageInput)
    return ConvNeXt(spec, signature.input.channels, signature.outputs, dtype)
