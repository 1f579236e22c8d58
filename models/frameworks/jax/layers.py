"""Layers of the JAX twins with torch's semantics; what Flax defines equally is used as it is.

Every layer takes `dtype`, in which it computes. Parameters and statistics are float32, or float64 where the
layer computes in float64. Networks are only ever built abstractly, so nothing is drawn here.

Shape suffixes: B batch, H height, W width, C channels, F features.
"""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx

from models.frameworks.jax.noise import Dropout as Dropout
from models.frameworks.jax.noise import StochasticDepth as StochasticDepth

DType = type[jnp.bfloat16] | type[jnp.float32] | type[jnp.float64]
Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {
    "relu": nnx.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),  # jax's default is the tanh form, torch's is not
    "tanh": jnp.tanh,
}

_ZEROS = nnx.initializers.zeros_init()


def master_dtype(dtype: DType) -> DType:
    """What parameters, statistics and losses are kept in when the network computes in `dtype`."""
    return jnp.float64 if dtype is jnp.float64 else jnp.float32


class ReLU(nnx.Module):
    """Where it has a place of its own in a list of layers."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x)


class GELU(nnx.Module):
    """Where it has a place of its own in a list of layers."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS["gelu"](x)


class TorchParam(nnx.Param[jax.Array]):
    """A parameter with torch's name and layout, wherever it stands."""


class FlattenLinear(nnx.Linear):
    """A fully connected layer over the flattened sample: [B, *sample] -> [B, outputs].

    The canonical weight expects images flattened as C, H, W. Activations here are H, W, C, and stay so: the
    layout permutes the weight's rows once instead (see layout).
    """

    def __init__(self, sample: tuple[int, ...], outputs: int, dtype: DType) -> None:
        super().__init__(
            prod(sample),
            outputs,
            dtype=dtype,
            param_dtype=master_dtype(dtype),
            kernel_init=_ZEROS,
            rngs=nnx.Rngs(0),
        )
        self.sample = sample

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        return super().__call__(x.reshape(x.shape[0], -1))


class BatchNorm(nnx.Module):
    """`torch.nn.BatchNorm1d` and `BatchNorm2d`, over all but the last axis.

    torch keeps the unbiased variance in running_var, Flax the biased one; Flax's momentum 0.99 is torch's
    0.01. We follow torch so that a checkpoint means the same in both.
    """

    def __init__(self, channels: int, dtype: DType, *, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        kept = master_dtype(dtype)
        self.weight = nnx.Param(jnp.ones(channels, kept))
        self.bias = nnx.Param(jnp.zeros(channels, kept))
        self.running_mean = nnx.BatchStat(jnp.zeros(channels, kept))
        self.running_var = nnx.BatchStat(jnp.ones(channels, kept))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.dtype, self.momentum, self.epsilon = dtype, momentum, epsilon
        self.frozen = False

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """x [..., C] -> [..., C]. In training it takes the batch's statistics and updates the running ones, unless it
        is frozen."""
        x = x.astype(master_dtype(self.dtype))
        of_batch = training and not self.frozen
        mean, variance = self._batch(x) if of_batch else (self.running_mean[...], self.running_var[...])
        scale = self.weight[...] * jax.lax.rsqrt(variance + self.epsilon)
        return ((x - mean) * scale + self.bias[...]).astype(self.dtype)

    def _batch(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and biased variance in one pass over x.

        E[x^2] - E[x]^2 loses all digits where the mean is large against the deviation, so both are taken
        about the running mean, which follows the batch's; mathematically it cancels out.
        """
        axes = tuple(range(x.ndim - 1))
        samples = x.size // x.shape[-1]
        shift = jax.lax.stop_gradient(self.running_mean[...])
        shifted = x - shift
        mean = jnp.mean(shifted, axes)
        # Of a channel that is constant, rounding can leave a little less than nothing.
        variance = jnp.maximum(jnp.mean(shifted * shifted, axes) - mean * mean, 0)
        self._track(mean + shift, variance * (samples / (samples - 1)))
        return mean + shift, variance

    def _track(self, mean: jax.Array, variance: jax.Array) -> None:
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running[...] = (1 - self.momentum) * running[...] + self.momentum * value
        self.num_batches_tracked[...] += 1


class LayerNorm(nnx.Module):
    """`torch.nn.LayerNorm` over the last axis: [..., F] -> [..., F]."""

    def __init__(self, features: int, dtype: DType, *, epsilon: float = 1e-5) -> None:
        kept = master_dtype(dtype)
        self.weight = TorchParam(jnp.ones(features, kept))
        self.bias = TorchParam(jnp.zeros(features, kept))
        self.dtype, self.epsilon = dtype, epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(master_dtype(self.dtype))
        deviation = x - jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(deviation * deviation, -1, keepdims=True)
        scaled = deviation * jax.lax.rsqrt(variance + self.epsilon)
        return (scaled * self.weight[...] + self.bias[...]).astype(self.dtype)


def linear(inputs: int, outputs: int, dtype: DType) -> nnx.Linear:
    """[B, inputs] -> [B, outputs]."""
    return nnx.Linear(
        inputs,
        outputs,
        dtype=dtype,
        param_dtype=master_dtype(dtype),
        kernel_init=_ZEROS,
        rngs=nnx.Rngs(0),
    )
