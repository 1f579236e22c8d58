"""From a model's logits to its answers, wherever they are given.

Shape suffixes: B batch, K classes.
"""

from collections.abc import Sequence
from math import exp, isfinite
from typing import Any, Literal, Protocol

import numpy as np

from models.errors import InvalidInput
from models.metrics import softmax
from models.preprocessing import TablePreprocessing
from models.weights import ModelCard

Wanted = Literal["labels", "probabilities", "logits"]
LARGEST_TOP_K = 10_000
Prediction = dict[str, Any]
FEW = 64
"""So many logits are turned into answers without NumPy."""


class Asked(Protocol):
    """What is asked about the inputs."""

    @property
    def wanted(self) -> Sequence[Wanted]: ...

    @property
    def top_k(self) -> int: ...


def predictions(logits_BK: np.ndarray, card: ModelCard, asked: Asked) -> list[Prediction]:
    """One for each input, with what was asked for. Raises InvalidInput where the model's answer is not finite."""
    if logits_BK.size <= FEW and not card.signature.is_regression:
        return [_of_row(row, index, card, asked) for index, row in enumerate(logits_BK.tolist())]
    check_finite(logits_BK)
    found = (
        [{"value": value} for value in values(logits_BK, card).tolist()]
        if card.signature.is_regression
        else _choices(logits_BK, card, asked)
    )
    if "logits" in asked.wanted:
        for prediction, row in zip(found, logits_BK.tolist(), strict=True):
            prediction["logits"] = row
    return found


def _of_row(logits: list[float], index: int, card: ModelCard, asked: Asked) -> Prediction:
    """One prediction in plain Python, which for a few classes is several times faster than NumPy."""
    if not isfinite(sum(logits)):
        raise _not_finite(index)
    largest = max(logits)
    exponentials = [exp(logit - largest) for logit in logits]
    total = sum(exponentials)
    scores = [exponential / total for exponential in exponentials]
    found: Prediction = {}
    if "labels" in asked.wanted:
        # Of two equal scores the class with the smaller index comes first, as argmax has it.
        best = (
            [logits.index(largest)]
            if asked.top_k == 1
            else sorted(range(len(logits)), key=logits.__getitem__, reverse=True)[: asked.top_k]
        )
        found.update(_labelled(best, scores, labels_of(card, len(logits))))
    if "probabilities" in asked.wanted:
        found["probabilities"] = scores
    if "logits" in asked.wanted:
        found["logits"] = logits
    return found


def _choices(logits_BK: np.ndarray, card: ModelCard, asked: Asked) -> list[Prediction]:
    probabilities = softmax(logits_BK)
    found: list[Prediction] = [{} for _ in logits_BK]
    if "labels" in asked.wanted:
        labels = labels_of(card, logits_BK.shape[1])
        # Stable: of two equal scores the class with the smaller index comes first, as argmax has it.
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : asked.top_k]
        for prediction, indices, scores in zip(found, best.tolist(), probabilities, strict=True):
            prediction.update(_labelled(indices, scores, labels))
    if "probabilities" in asked.wanted:
        for prediction, row in zip(found, probabilities.tolist(), strict=True):
            prediction["probabilities"] = row
    return found


def labels_of(card: ModelCard, outputs: int) -> tuple[str, ...]:
    """The names of the classes; their numbers where they have none."""
    return card.classes or tuple(map(str, range(outputs)))


def _labelled(indices: list[int], scores: Sequence[float], labels: tuple[str, ...]) -> Prediction:
    first = indices[0]
    return {
        "label": labels[first],
        "index": first,
        "score": float(scores[first]),
        "top": [{"label": labels[index], "score": float(scores[index])} for index in indices],
    }


def values(logits_BK: np.ndarray, card: ModelCard) -> np.ndarray:
    """The target in its own units, float64 [B]: the network learns it standardised."""
    found = logits_BK[:, 0].astype(np.float64)
    about = card.preprocessing
    if isinstance(about, TablePreprocessing) and about.target_mean is not None:
        assert about.target_std is not None
        found = found * about.target_std + about.target_mean
    return found


def check_finite(logits_BK: np.ndarray) -> None:
    """Raise InvalidInput, with the pointer of the input, where an answer is not finite."""
    finite = np.isfinite(logits_BK).all(axis=1)
    if not finite.all():
        raise _not_finite(int(np.argmin(finite)))


def _not_finite(index: int) -> InvalidInput:
    return InvalidInput(
        "The model's answer to this input is not a finite number: the input lies too far from what it was trained on.",
        pointer=f"/inputs/{index}",
        code="not_finite",
    )
