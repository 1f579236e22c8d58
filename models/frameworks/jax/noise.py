"""Dropout from `models.noise`, in JAX. Counterpart: `models.frameworks.torch.noise`.

Each module holds its key as a variable of the network, which `Network.apply` fills in, so that everything stays a
pure function.
"""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.noise import FIRST, SECOND, SHIFT, SPREAD, threshold


class NoiseKey(nnx.Variable[jax.Array]):
    """The key of one module at one step, int32."""


class Dropout(nnx.Module):
    """`torch.nn.Dropout` whose choice depends on the step and on where it stands."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.key = NoiseKey(jnp.zeros((), jnp.int32))

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """x of any shape; elements are numbered in row-major order."""
        return self._dropped(x, x.shape) if training and self.rate else x

    def _dropped(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """x with zeros where the mask of this shape, broadcast to it, says so; the rest scaled."""
        if self.rate == 1:
            return jnp.zeros_like(x)
        elements = jax.lax.iota(np.int32, prod(shape)).reshape(shape)
        kept = scrambled(elements * np.int32(SPREAD) + self.key[...]) >= np.int32(threshold(self.rate))
        return jnp.where(kept, x * np.asarray(1 / (1 - self.rate), x.dtype), 0)


class StochasticDepth(Dropout):
    """torchvision's StochasticDepth by rows: drops whole samples. Source: https://arxiv.org/abs/1603.09382"""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """x [B, ...]."""
        rows = (x.shape[0], *(1 for _ in x.shape[1:]))
        return self._dropped(x, rows) if training and self.rate else x


def scrambled(h: jax.Array) -> jax.Array:
    """`models.noise.scrambled`."""
    h = h ^ (h >> np.int32(SHIFT))
    h = h * np.int32(FIRST)
    h = h ^ (h >> np.int32(SHIFT))
    return h * np.int32(SECOND)


def mixed(key: jax.Array) -> jax.Array:
    """`models.noise.mixed`."""
    h = scrambled(key)
    return h ^ (h >> np.int32(SHIFT))
