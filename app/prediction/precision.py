"""Whether a reduced precision says the same: label by label, on data that the model was not trained on."""

from collections.abc import Iterable, Mapping

import numpy as np

from models.engine import Predictor
from models.framework import EngineName


def kept_labels(
    exact: Predictor, reduced: Mapping[EngineName, Predictor], batches: Iterable[np.ndarray]
) -> dict[EngineName, float]:
    """For each of these, the share of the rows whose label is that of the exact one. The batches hold at least one
    row."""
    kept = dict.fromkeys(reduced, 0)
    rows = 0
    for x in batches:
        labels_B = exact.logits(x).argmax(axis=1)
        rows += len(labels_B)
        for name, predictor in reduced.items():
            kept[name] += int((predictor.logits(x).argmax(axis=1) == labels_B).sum())
    return {name: count / rows for name, count in kept.items()}
