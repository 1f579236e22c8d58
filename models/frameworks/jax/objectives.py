"""The loss of a batch and its score, as torch defines them.

Shape suffixes: B batch, K outputs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.signature import Signature

Objective = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""From logits [B, K] and targets [B] to the mean loss and the score: how many samples were classified
correctly, or for a regression the sum of absolute errors."""


def objective(signature: Signature, label_smoothing: float) -> Objective:
    """What is minimised for this task."""
    if signature.is_regression:
        return _squared_error
    return lambda logits_BK, labels_B: _cross_entropy(logits_BK, labels_B, label_smoothing)


def _cross_entropy(
    logits_BK: jax.Array, labels_B: jax.Array, smoothing: float
) -> tuple[jax.Array, jax.Array]:
    """`torch.nn.functional.cross_entropy`: a share `smoothing` of the target lies evenly over all classes."""
    logs_BK = jax.nn.log_softmax(logits_BK)
    truth_BK = labels_B[:, None] == jnp.arange(logits_BK.shape[1])
    loss = -jnp.mean(jnp.sum(jnp.where(truth_BK, logs_BK, 0), 1))
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * jnp.mean(logs_BK)
    return loss, jnp.sum(jnp.argmax(logits_BK, 1) == labels_B).astype(logits_BK.dtype)


def _squared_error(logits_B1: jax.Array, targets_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    errors_B = logits_B1[:, 0] - targets_B
    return jnp.mean(errors_B * errors_B), jnp.sum(jnp.abs(errors_B))
