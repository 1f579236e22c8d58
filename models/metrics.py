"""Metrics by one NumPy definition, from the logits that either engine returns."""

from collections.abc import Iterable

import numpy as np

from models.signature import Signature

Metrics = dict[str, float]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [B, K], of logits [B, K]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def evaluate(
    outputs: Iterable[np.ndarray], targets: np.ndarray, signature: Signature, *, target_std: float = 1.0
) -> Metrics:
    """Metrics of a whole split from its logits in order.

    Classification: `loss` (mean cross-entropy, no label smoothing) and `accuracy`; targets int [N].
    Regression: `loss` (mean squared error of the standardised target), `rmse` and `mae` in the target's own
    units, and `r2`, the coefficient of determination; targets float [N], standardised, `target_std` their unit.
    """
    logits = np.concatenate([np.asarray(batch) for batch in outputs]).astype(np.float64)
    if signature.is_regression:
        return _regression(logits[:, 0], targets.astype(np.float64), target_std)
    return _classification(logits, targets)


def cross_entropies(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each row, float64 [B], from logits [B, K] and targets int [B]."""
    logits = logits.astype(np.float64, copy=False)
    highest = logits.max(axis=1)
    log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return np.asarray(log_sum - logits[np.arange(len(targets)), targets])


def _classification(logits: np.ndarray, targets: np.ndarray) -> Metrics:
    return {
        "loss": float(cross_entropies(logits, targets).mean()),
        "accuracy": float((logits.argmax(axis=1) == targets).mean()),
    }


def _regression(predicted: np.ndarray, targets: np.ndarray, target_std: float) -> Metrics:
    errors = predicted - targets
    squared = float((errors**2).mean())
    spread = float(((targets - targets.mean()) ** 2).mean())
    return {
        "loss": squared,
        "rmse": squared**0.5 * target_std,
        "mae": float(np.abs(errors).mean()) * target_std,
        "r2": 1 - squared / spread if spread > 0 else 0.0,
    }
