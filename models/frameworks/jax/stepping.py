"""One optimizer step, and a piece of several, as pure functions of what is on the device.

Shape suffixes: S steps, B batch, N rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from models.engine import Definition
from models.frameworks.jax.images import augmented, normalised
from models.frameworks.jax.network import Network, Tensors
from models.frameworks.jax.objectives import objective
from models.frameworks.jax.optimizers import DeviceSlots, clip_by_norm, optimizer
from models.training import TrainingSpec


class Carry(NamedTuple):
    """What a step changes: `parameters` are those that learn. `updates`: int32, how many the optimizer has done."""

    parameters: Tensors
    statistics: Tensors
    slots: DeviceSlots
    updates: Any


class Rows(NamedTuple):
    """Rows of the training split on the device, raw, and their normalisation in the master dtype (tokens: None)."""

    x: Any
    y: Any
    mean: Any
    inverse_std: Any


class Batch(NamedTuple):
    """What a step is given, or with a leading axis S, what several are (see `models.plan.Segment`)."""

    indices: Any
    rate: Any
    noise: Any
    flips: Any
    offsets: Any


class Step:
    """The training step of a job."""

    def __init__(self, network: Network, definition: Definition, training: TrainingSpec) -> None:
        assert training.optimizer is not None
        self.network = network
        self.optimizer = optimizer(training.optimizer)
        self.objective = objective(definition.signature, training.label_smoothing)
        self.clip_norm = training.gradient_clip_norm
        self.factors = {
            name: 1.0 if definition.spec.in_head(name) else training.backbone_factor
            for name in network.learning
        }

    def one(
        self, carry: Carry, frozen: Tensors, rows: Rows, batch: Batch, width: int | None = None
    ) -> tuple[Carry, jax.Array]:
        """The carry after the step, and [loss, score] of its batch before it. `frozen`: the parameters that do not
        learn. Texts are cut to `width` tokens."""
        raw = rows.x[batch.indices] if width is None else rows.x[batch.indices, :width]
        x = augmented(raw, batch.flips, batch.offsets)
        x, y = normalised(x, rows.mean, rows.inverse_std), rows.y[batch.indices]

        def loss_of(parameters: Tensors) -> tuple[jax.Array, tuple[jax.Array, Tensors]]:
            tensors = parameters | frozen | carry.statistics
            logits, statistics = self.network.apply(tensors, x, training=True, noise=batch.noise)
            loss, score = self.objective(logits, y)
            return loss, (score, statistics)

        (loss, (score, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(carry.parameters)
        if self.clip_norm is not None:
            gradients = clip_by_norm(gradients, self.clip_norm)
        parameters, slots = self.optimizer.update(
            carry.parameters, gradients, carry.slots, carry.updates, self._rates(batch.rate)
        )
        return Carry(parameters, statistics, slots, carry.updates + 1), jnp.stack((loss, score))

    def _rates(self, rate: jax.Array) -> Tensors:
        """The learning rate of every parameter that learns."""
        return {name: rate if factor == 1 else rate * factor for name, factor in self.factors.items()}

    def single(
        self, carry: Carry, frozen: Tensors, rows: Rows, batch: Batch, steps: Any, width: int | None = None
    ) -> tuple[Carry, jax.Array]:
        """A piece of exactly one step."""
        carry, result = self.one(carry, frozen, rows, jax.tree.map(lambda array_S: array_S[0], batch), width)
        return carry, result[None]

    def several(
        self, carry: Carry, frozen: Tensors, rows: Rows, batch: Batch, steps: Any
    ) -> tuple[Carry, jax.Array]:
        """The first `steps` of the batch's S steps; [S, 2] losses and scores, zeros after them.

        The number of steps is an argument, so that every piece of an epoch, the last short one too, runs
        the same compiled code: where a run is cut into pieces changes no bit of it.
        """

        def body(index: jax.Array, state: tuple[Carry, jax.Array]) -> tuple[Carry, jax.Array]:
            carry, results = state
            now = jax.tree.map(lambda array_S: array_S[index], batch)
            carry, result = self.one(carry, frozen, rows, now)
            return carry, results.at[index].set(result)

        results = jnp.zeros((batch.rate.shape[0], 2), batch.rate.dtype)
        done: tuple[Carry, jax.Array] = jax.lax.fori_loop(0, steps, body, (carry, results))
        return done
