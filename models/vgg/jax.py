"""VGG in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, C channels, F features, K classes.
Source: Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556; names follow torchvision.
"""

import jax
from flax import nnx

from models.frameworks.jax.convolutions import Convolution
from models.frameworks.jax.layers import DType, ReLU, linear
from models.frameworks.jax.noise import Dropout
from models.frameworks.jax.pooling import PooledLinear, max_pool
from models.signature import ImageInput, Signature
from models.vgg.spec import POOLED, Conv, VGGSpec


class MaxPool(nnx.Module):
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        return max_pool(x_BHWC, 2, 2)


class VGG(nnx.Module):
    def __init__(self, spec: VGGSpec, channels: int, classes: int, dtype: DType) -> None:
        layers = spec.layers(channels)
        self.features = nnx.List([module for layer in layers for module in _modules(layer, dtype)])
        self.classifier = nnx.List(
            [
                PooledLinear((POOLED, POOLED, spec.features), spec.hidden, dtype),
                ReLU(),
                Dropout(spec.dropout),
                linear(spec.hidden, spec.hidden, dtype),
                ReLU(),
                Dropout(spec.dropout),
                linear(spec.hidden, classes, dtype),
            ]
        )

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        for module in self.features:
            x_BHWC = module(x_BHWC)
        x = x_BHWC
        for module in self.classifier:
            x = module(x, training) if isinstance(module, Dropout) else module(x)
        return x


def _modules(layer: Conv | None, dtype: DType) -> list[nnx.Module]:
    if layer is None:
        return [MaxPool()]
    return [Convolution(layer.inputs, layer.outputs, 3, dtype, bias=True), ReLU()]


def build(spec: VGGSpec, signature: Signature, dtype: DType) -> VGG:
    assert isinstance(signature.input, ImageInput)
    return VGG(spec, signature.input.channels, signature.outputs, dtype)
