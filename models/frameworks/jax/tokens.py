"""What the networks for texts share, in JAX.

Shape suffixes: B batch, T tokens, C features.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.frameworks.jax.layers import DType, TorchParam, master_dtype


class Embedding(nnx.Module):
    """`torch.nn.Embedding`: [B, T] -> [B, T, C]. The row of the id `padding` learns nothing."""

    def __init__(self, count: int, features: int, dtype: DType, *, padding: int | None = None) -> None:
        self.weight = TorchParam(jnp.zeros((count, features), master_dtype(dtype)))
        self.dtype, self.padding = dtype, padding

    def __call__(self, ids_BT: jax.Array) -> jax.Array:
        rows_BTC = self.weight[...][ids_BT]
        if self.padding is not None:
            is_padding = (ids_BT == self.padding)[..., None]
            rows_BTC = jnp.where(is_padding, jax.lax.stop_gradient(rows_BTC), rows_BTC)
        return rows_BTC.astype(self.dtype)


def mean_of(x_BTC: jax.Array, allowed_BT: jax.Array) -> jax.Array:
    """[B, C]: the mean over the tokens that are no padding."""
    kept = allowed_BT[..., None].astype(x_BTC.dtype)
    return jnp.sum(x_BTC * kept, axis=1) / jnp.sum(kept, axis=1)
