"""torch's optimizers from Optax's parts, every hyperparameter passed explicitly; slots keep torch's names.

Two things are our own: Optax forms Adam's 1 - beta2^t by subtraction, which in float32 leaves it about five digits
in the first steps, and its global clipping lacks torch's 1e-6.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.frameworks.jax.network import Tensors
from models.training import SGD, Adam, AdamW, OptimizerSpec

DeviceSlots = dict[str, Tensors]
Update = Callable[[Tensors, Tensors, DeviceSlots, jax.Array, Tensors], tuple[Tensors, DeviceSlots]]
"""From parameters, gradients, slots, updates done before and learning rates to new parameters and slots."""


FIELDS: Mapping[str, str] = {"momentum_buffer": "trace", "exp_avg": "mu", "exp_avg_sq": "nu"}
"""torch's slots and where Optax's states keep them."""


class Optimizer(NamedTuple):
    slots: tuple[str, ...]
    update: Update


def optimizer(spec: OptimizerSpec) -> Optimizer:
    """The optimizer with all its hyperparameters but the learning rate, which comes with every step."""
    match spec:
        case SGD(momentum=0):
            return _of(optax.add_decayed_weights(spec.weight_decay))
        case SGD():
            momentum = optax.trace(spec.momentum, spec.nesterov)
            return _of(optax.chain(optax.add_decayed_weights(spec.weight_decay), momentum), "momentum_buffer")
        case Adam():
            coupled = optax.chain(optax.add_decayed_weights(spec.weight_decay), _scale_by_adam(spec))
            return _of(coupled, "exp_avg", "exp_avg_sq")
        case AdamW():
            decoupled = optax.chain(_scale_by_adam(spec), optax.add_decayed_weights(spec.weight_decay))
            return _of(decoupled, "exp_avg", "exp_avg_sq")


def clip_by_norm(gradients: Tensors, limit: float) -> Tensors:
    """`torch.nn.utils.clip_grad_norm_`, its 1e-6 included."""
    norm = jnp.sqrt(sum(jnp.sum(gradient * gradient) for gradient in gradients.values()))
    factor = jnp.minimum(1.0, limit / (norm + 1e-6))
    return {name: gradient * factor for name, gradient in gradients.items()}


def _of(transformation: optax.GradientTransformation, *slots: str) -> Optimizer:
    """The transformation as a function of torch's slots; what its own state would begin with is never computed."""

    def update(
        parameters: Tensors, gradients: Tensors, given: DeviceSlots, done: jax.Array, rates: Tensors
    ) -> tuple[Tensors, DeviceSlots]:
        values = {FIELDS[slot]: given[slot] for slot in slots}
        counted = {"count": done} if "exp_avg" in slots else {}
        state = optax.tree.set(transformation.init(parameters), **values, **counted)
        directions, state = transformation.update(gradients, state, parameters)
        steps = {name: -rates[name] * direction for name, direction in directions.items()}
        moved = optax.apply_updates(parameters, steps)
        return moved, {slot: optax.tree.get(state, FIELDS[slot]) for slot in slots}

    return Optimizer(slots, update)


def _scale_by_adam(spec: Adam | AdamW) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with a bias correction that keeps all its digits."""
    beta1, beta2 = spec.betas

    def update(
        gradients: optax.Updates, state: optax.ScaleByAdamState, parameters: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        averages = optax.tree.update_moment(gradients, state.mu, beta1, 1)
        squares = optax.tree.update_moment(gradients, state.nu, beta2, 2)
        count = state.count + 1

        def direction(average: jax.Array, square: jax.Array) -> jax.Array:
            step = count.astype(average.dtype)
            root = jnp.sqrt(square) / jnp.sqrt(_one_minus_power(beta2, step)) + spec.epsilon
            return average / _one_minus_power(beta1, step) / root

        directions = jax.tree.map(direction, averages, squares)
        return directions, optax.ScaleByAdamState(count, averages, squares)

    return optax.GradientTransformation(optax.scale_by_adam(beta1, beta2, spec.epsilon).init, update)


def _one_minus_power(beta: float, step: jax.Array) -> jax.Array:
    """1 - beta^step without cancellation."""
    return -jnp.expm1(step * np.log(beta)) if beta else jnp.ones_like(step)
