"""A bare JAX loop: Flax and Optax, data on the device, one donated step under `jax.jit`, or a scan of 32 of them.

It has what an expert on CPUs would add (measured here): XLA's fused reductions where there are convolutions (they slow
an MLP down), max-pooling by reshaping rather than `reduce_window`, no loop around convolutions.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.cases import Case
from models.catalog import implementation
from models.frameworks.jax.noise import Dropout, StochasticDepth
from models.preprocessing import Normalisation
from models.training import SGD

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
SCANNED = 32


def loop(
    case: Case, x: np.ndarray, y: np.ndarray, normalisation: Normalisation | None
) -> Callable[[int], float]:
    """A function that trains so many steps more and returns their mean loss.

    x: uint8 [N, H, W, C], or int32 token ids [N, T] with no normalisation; y: int [N].
    """
    model = network(case)
    convolves = any(isinstance(layer, nnx.Conv) for _, layer in nnx.iter_modules(model))
    tuned = convolves and jax.default_backend() == "cpu"
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optimizer_of(case)
    enter = entrance(normalisation)
    samples, targets = jax.device_put(x), jax.device_put(y.astype(np.int32))

    def step(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        parameters, rest, state = carry

        def loss_of(parameters: Any) -> tuple[jax.Array, Any]:
            model = nnx.merge(graph, parameters, rest, copy=True)
            logits = model(enter(samples[rows]), training=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets[rows])
            return losses.mean(), nnx.state(model, nnx.Not(nnx.Param))

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return (optax.apply_updates(parameters, updates), rest, state), loss

    def scanned(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, carry, rows)

    options = OPTIONS if tuned else None
    one = jax.jit(step, donate_argnums=0, compiler_options=options)
    many = jax.jit(scanned, donate_argnums=0, compiler_options=options)
    carry = (parameters, rest, optimizer.init(parameters))
    chunk = 1 if tuned else SCANNED

    def train(steps: int) -> float:
        nonlocal carry
        losses, done = [], 0
        while done < steps:
            epoch = min(len(x) // case.batch, steps - done)
            order = np.random.permutation(len(x)).astype(np.int32)
            rows = order[: epoch * case.batch].reshape(epoch, case.batch)
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


def entrance(normalisation: Normalisation | None) -> Callable[[jax.Array], jax.Array]:
    """Pixels normalised; token ids as they are."""
    if normalisation is None:
        return lambda ids: ids
    return lambda x: (x.astype(jnp.float32) - normalisation.mean) * normalisation.inverse_std


def optimizer_of(case: Case) -> optax.GradientTransformation:
    chosen = case.optimizer
    if isinstance(chosen, SGD):
        return optax.sgd(chosen.learning_rate, chosen.momentum or None)
    return optax.adamw(chosen.learning_rate, weight_decay=1e-2)


def network(case: Case) -> nnx.Module:
    """Written here by hand, or Tandem's own: nobody publishes these networks for Flax."""
    if case.architecture in NETWORKS:
        return NETWORKS[case.architecture](nnx.Rngs(0))
    model = implementation(case.spec, "jax").build(case.spec, case.signature, jnp.float32)
    return with_flax_dropout(drawn(model))


def drawn(model: nnx.Module) -> nnx.Module:
    """The network with random matrices and kernels: Tandem's are built without values."""
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    generator = np.random.default_rng(0)

    def draw(value: jax.Array) -> jax.Array:
        return jnp.asarray(generator.normal(0, 0.02, value.shape), value.dtype) if value.ndim > 1 else value

    found: nnx.Module = nnx.merge(graph, jax.tree.map(draw, parameters), rest)
    return found


def with_flax_dropout(model: nnx.Module) -> nnx.Module:
    """The network with Flax's dropout, which draws from a generator, for ours, which an engine gives a key."""
    rngs = nnx.Rngs(0)
    for path, layer in list(nnx.iter_modules(model)):
        if isinstance(layer, Dropout):
            parent: Any = model
            for part in path[:-1]:
                parent = parent[part] if isinstance(part, int) else getattr(parent, part)
            if isinstance(path[-1], int):
                parent[path[-1]] = FlaxDropout(layer, rngs)
            else:
                setattr(parent, path[-1], FlaxDropout(layer, rngs))
    return model


class FlaxDropout(Dropout):
    def __init__(self, ours: Dropout, rngs: nnx.Rngs) -> None:
        whole_samples = (1, 2, 3) if isinstance(ours, StochasticDepth) else ()
        self.dropout = nnx.Dropout(ours.rate, broadcast_dims=whole_samples, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        return self.dropout(x, deterministic=not training)


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.output = nnx.Linear(784, 256, rngs=rngs), nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
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

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
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
