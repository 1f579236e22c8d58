"""The linear model in JAX. Twin: torch.py."""

import jax
from flax import nnx

from models.frameworks.jax.layers import DType, FlattenLinear
from models.linear.spec import LinearSpec
from models.signature import Signature


class Linear(nnx.Module):
    def __init__(self, sample: tuple[int, ...], outputs: int, dtype: DType) -> None:
        self.linear = FlattenLinear(sample, outputs, dtype)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C] or [B, F], normalised. Returns logits [B, K]."""
        return self.linear(x)


def build(spec: LinearSpec, signature: Signature, dtype: DType) -> Linear:
    return Linear(signature.input.shape, signature.outputs, dtype)
