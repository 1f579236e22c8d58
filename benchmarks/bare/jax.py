"""A bare JAX loop: Flax and Optax, data on the device, one donated step under `jax.jit`; the MLP scans 32 of them.

It has what an expert on CPUs would add (measured here): XLA's fused reductions for the CNN (they slow the MLP
down), max-pooling by reshaping rather than `reduce_window`, no loop around convolutions.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
SCANNED = 32


def loop(
    model: str, images: np.ndarray, labels: np.ndarray, batch: int, mean: float, inverse_std: float
) -> Callable[[int], float]:
    """A function that trains so many steps more and returns their mean loss.

    images: uint8 [N, 28, 28, 1]; labels: int [N].
    """
    on_cpu = jax.default_backend() == "cpu"
    graph, parameters, rest = nnx.split(NETWORKS[model](nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.adamw(1e-3, weight_decay=1e-2)
    x, y = jax.device_put(images), jax.device_put(labels.astype(np.int32))

    def step(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        parameters, rest, state = carry

        def loss_of(parameters: Any) -> tuple[jax.Array, Any]:
            network = nnx.merge(graph, parameters, rest, copy=True)
            inputs = (x[rows].astype(jnp.float32) - mean) * inverse_std
            losses = optax.softmax_cross_entropy_with_integer_labels(network(inputs), y[rows])
            return losses.mean(), nnx.state(network, nnx.Not(nnx.Param))

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return (optax.apply_updates(parameters, updates), rest, state), loss

    def scanned(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, carry, rows)

    options = OPTIONS if on_cpu and model == "cnn" else None
    one = jax.jit(step, donate_argnums=0, compiler_options=options)
    many = jax.jit(scanned, donate_argnums=0, compiler_options=options)
    carry = (parameters, rest, optimizer.init(parameters))
    chunk = 1 if on_cpu and model == "cnn" else SCANNED

    def train(steps: int) -> float:
        nonlocal carry
        losses, done = [], 0
        while done < steps:
            epoch = min(len(images) // batch, steps - done)
            order = np.random.permutation(len(images)).astype(np.int32)
            rows = order[: epoch * batch].reshape(epoch, batch)
            whole = epoch // chunk * chunk if chunk > 1 else 0
            for start in range(0, whole, chunk):
                carry, loss = many(carry, rows[start : start + chunk])
                losses.append(loss)
            for start in range(whole, epoch):
                carry, loss = one(carry, rows[start])
                losses.append(loss)
            done += epoch
        return float(sum(np.asarray(loss).sum() for loss in losses)) / steps

    return train


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.output = nnx.Linear(784, 256, rngs=rngs), nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Stage(nnx.Module):
    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(outputs, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(outputs, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return _max_pool(x)


class CNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stages = nnx.List([Stage(i, o, rngs) for i, o in ((1, 32), (32, 64), (64, 128))])
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((1, 2)))


def _max_pool(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[..., 0, :], x[..., 1, :])


NETWORKS = {"mlp": MLP, "cnn": CNN}
