"""The rows of the result: where each sample is, what the dataset says it is, and what the model says.

Shape suffixes: B batch, K classes.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from models.answers import labels_of, predictions, values
from models.data.dataset import DatasetDescription
from models.scoring.samples import Batch
from models.scoring.spec import ScoringSpec
from models.scoring.tally import Tally
from models.weights import ModelCard


class Answers:
    """Turns logits into rows of the result, and counts how many are right."""

    def __init__(self, card: ModelCard, held: DatasetDescription, spec: ScoringSpec) -> None:
        self._card, self._spec, self._classes = card, spec, held.classes
        self._places = _places(held.classes, card)
        self.schema = schema(card, spec)

    def add(self, tally: Tally, batch: Batch, logits_BK: np.ndarray) -> tuple[pa.Table, Tally]:
        """One row for each sample of the batch, without an answer where the model's is not a finite number; and the
        tally with this batch, of the answers only where the dataset's labels are some of the model's."""
        answered_B = np.isfinite(logits_BK).all(axis=1)
        logits_BK, y_B = logits_BK[answered_B], batch.y[answered_B]
        found = iter(predictions(logits_BK, self._card, self._spec))
        rows = [next(found) if is_answered else {} for is_answered in answered_B.tolist()]
        for offset, (row, target) in enumerate(zip(rows, self._targets(batch.y), strict=True)):
            row |= {"row": batch.first + offset, "split": batch.split, "target": target}
        tally = self._counted(tally.plus_unanswered(len(rows) - len(y_B)), logits_BK, y_B)
        return pa.Table.from_pylist(rows, schema=self.schema), tally

    def _counted(self, tally: Tally, logits_BK: np.ndarray, y_B: np.ndarray) -> Tally:
        if self._card.signature.is_regression:
            return tally.plus_values(values(logits_BK, self._card), y_B)
        return tally if self._places is None else tally.plus_labels(logits_BK, self._places[y_B])

    def _targets(self, y_B: np.ndarray) -> list[Any]:
        found: list[Any] = y_B.tolist()
        return found if self._classes is None else [self._classes[index] for index in found]


def schema(card: ModelCard, spec: ScoringSpec) -> pa.Schema:
    """The columns of the result."""
    regression = card.signature.is_regression
    fields = [("row", pa.int64()), ("split", pa.string())]
    fields += [("target", pa.float64() if regression else pa.string())]
    if regression:
        fields += [("value", pa.float64())]
    elif "labels" in spec.wanted:
        fields += [("label", pa.string()), ("index", pa.int64()), ("score", pa.float64())]
        if spec.top_k > 1:
            fields += [("top", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())])))]
    if "probabilities" in spec.wanted and not regression:
        fields += [("probabilities", pa.list_(pa.float64()))]
    if "logits" in spec.wanted:
        fields += [("logits", pa.list_(pa.float32()))]
    return pa.schema(fields)


def _places(classes: tuple[str, ...] | None, card: ModelCard) -> np.ndarray | None:
    """For each class of a dataset its place among the model's; None where the model does not know one of them."""
    if classes is None:
        return None
    outputs = card.signature.outputs
    if card.classes is None and len(classes) == outputs:
        return np.arange(outputs)
    places = {label: place for place, label in enumerate(labels_of(card, outputs))}
    return np.array([places[name] for name in classes]) if places.keys() >= set(classes) else None
