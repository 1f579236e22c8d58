"""How well a model does on a dataset's own labels, counted while its rows go by."""

from typing import NamedTuple

import numpy as np

from models.metrics import Metrics, cross_entropies

UNANSWERED = "unanswered_rows"


class Tally(NamedTuple):
    """Sums over `rows` rows: of cross-entropies and correct labels; of a regression, of squared and absolute errors.
    Those `unanswered` are not among them."""

    rows: int = 0
    loss: float = 0.0
    hits: float = 0.0
    unanswered: int = 0

    def plus_labels(self, logits_BK: np.ndarray, targets_B: np.ndarray) -> "Tally":
        """These sums and those of B rows whose labels are known, as the model counts its classes."""
        hits = int((logits_BK.argmax(axis=1) == targets_B).sum())
        return self._plus(len(targets_B), float(cross_entropies(logits_BK, targets_B).sum()), hits)

    def plus_values(self, values_B: np.ndarray, targets_B: np.ndarray) -> "Tally":
        """These sums and those of B values, in the target's units."""
        errors_B = values_B - targets_B.astype(np.float64)
        return self._plus(len(targets_B), float((errors_B**2).sum()), float(np.abs(errors_B).sum()))

    def plus_unanswered(self, rows: int) -> "Tally":
        """These sums, and so many rows more that the model gives no number for."""
        return self._replace(unanswered=self.unanswered + rows)

    def metrics(self, *, regression: bool) -> Metrics:
        """Their means by name, as far as there are rows; and how many rows have no answer, if any."""
        found: Metrics = {UNANSWERED: float(self.unanswered)} if self.unanswered else {}
        if not self.rows:
            return found
        loss, hits = self.loss / self.rows, self.hits / self.rows
        means = {"rmse": loss**0.5, "mae": hits} if regression else {"loss": loss, "accuracy": hits}
        return {**means, **found}

    def _plus(self, rows: int, loss: float, hits: float) -> "Tally":
        return self._replace(rows=self.rows + rows, loss=self.loss + loss, hits=self.hits + hits)
