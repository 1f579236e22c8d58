"""The multilayer perceptron in JAX. Twin: torch.py."""

from itertools import pairwise

import jax
from flax import nnx

from models.frameworks.jax.layers import ACTIVATIONS, Activation, DType, FlattenLinear, linear
from models.mlp.spec import MLPSpec
from models.signature import Signature


class MLP(nnx.Module):
    def __init__(
        self, sample: tuple[int, ...], widths: tuple[int, ...], activation: Activation, dtype: DType
    ) -> None:
        first = FlattenLinear(sample, widths[0], dtype)
        rest = (linear(inputs, outputs, dtype) for inputs, outputs in pairwise(widths))
        self.layers = nnx.List([first, *rest])
        self.activation = activation

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C] or [B, F], normalised. Returns logits [B, K]."""
        first, *rest = self.layers
        x = first(x)
        for layer in rest:
            x = layer(self.activation(x))
        return x


def build(spec: MLPSpec, signature: Signature, dtype: DType) -> MLP:
    widths = spec.widths(signature)[1:]
    return MLP(signature.input.shape, widths, ACTIVATIONS[spec.activation], dtype)
