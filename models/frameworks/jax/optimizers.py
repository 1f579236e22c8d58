"""torch's optimizers as pure functions over dictionaries of tensors.

Written out rather than taken from Optax: Optax forms Adam's 1 - beta2^t in float32, which leaves about five
digits of it in the first steps, and its global clipping lacks torch's 1e-6. Slots keep torch's names.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.frameworks.jax.network import Tensors
from models.training import SGD, Adam, AdamW, OptimizerSpec

DeviceSlots = dict[str, Tensors]
Update = Callable[[Tensors, Tensors, DeviceSlots, jax.Array, jax.Array], tuple[Tensors, DeviceSlots]]
"""From parameters, gradients, slots, updates done before and learning rate to new parameters and slots."""


class Optimizer(NamedTuple):
    slots: tuple[str, ...]
    update: Update


def optimizer(spec: OptimizerSpec) -> Optimizer:
    """The optimizer with all its hyperparameters but the learning rate, which comes with every step."""
    match spec:
        case SGD(momentum=0):
            return Optimizer((), _each(spec, _sgd, ()))
        case SGD():
            return Optimizer(("momentum_buffer",), _each(spec, _momentum, ("momentum_buffer",)))
        case Adam() | AdamW():
            return Optimizer(("exp_avg", "exp_avg_sq"), _each(spec, _adam, ("exp_avg", "exp_avg_sq")))


def clip_by_norm(gradients: Tensors, limit: float) -> Tensors:
    """`torch.nn.utils.clip_grad_norm_`, its 1e-6 included."""
    norm = jnp.sqrt(sum(jnp.sum(gradient * gradient) for gradient in gradients.values()))
    factor = jnp.minimum(1.0, limit / (norm + 1e-6))
    return {name: gradient * factor for name, gradient in gradients.items()}


def _each(spec: Any, rule: Callable[..., tuple[jax.Array, ...]], names: tuple[str, ...]) -> Update:
    """The rule for one parameter applied to every one of them."""

    def update(
        parameters: Tensors, gradients: Tensors, slots: DeviceSlots, done: jax.Array, rate: jax.Array
    ) -> tuple[Tensors, DeviceSlots]:
        new = {
            name: rule(spec, parameter, gradients[name], *(slots[slot][name] for slot in names), done, rate)
            for name, parameter in parameters.items()
        }
        moved = {name: values[0] for name, values in new.items()}
        return moved, {
            slot: {name: values[index] for name, values in new.items()}
            for index, slot in enumerate(names, start=1)
        }

    return update


def _sgd(
    spec: SGD, parameter: jax.Array, gradient: jax.Array, done: jax.Array, rate: jax.Array
) -> tuple[jax.Array, ...]:
    gradient = gradient + spec.weight_decay * parameter
    return (parameter - rate * gradient,)


def _momentum(
    spec: SGD, parameter: jax.Array, gradient: jax.Array, buffer: jax.Array, done: jax.Array, rate: jax.Array
) -> tuple[jax.Array, ...]:
    """torch's first buffer is the gradient itself, which is what a buffer of zeros gives."""
    gradient = gradient + spec.weight_decay * parameter
    buffer = spec.momentum * buffer + gradient
    direction = gradient + spec.momentum * buffer if spec.nesterov else buffer
    return parameter - rate * direction, buffer


def _adam(
    spec: Adam | AdamW,
    parameter: jax.Array,
    gradient: jax.Array,
    average: jax.Array,
    average_square: jax.Array,
    done: jax.Array,
    rate: jax.Array,
) -> tuple[jax.Array, ...]:
    beta1, beta2 = spec.betas
    if isinstance(spec, AdamW):
        parameter = parameter * (1 - rate * spec.weight_decay)
    else:
        gradient = gradient + spec.weight_decay * parameter
    average = beta1 * average + (1 - beta1) * gradient
    average_square = beta2 * average_square + (1 - beta2) * gradient * gradient
    step = (done + 1).astype(parameter.dtype)
    root = jnp.sqrt(average_square) / jnp.sqrt(_one_minus_power(beta2, step)) + spec.epsilon
    return parameter - rate / _one_minus_power(beta1, step) * average / root, average, average_square


def _one_minus_power(beta: float, step: jax.Array) -> jax.Array:
    """1 - beta^step without cancellation."""
    return -jnp.expm1(step * np.log(beta)) if beta else jnp.ones_like(step)
