"""Whether an exported file computes what the model computes.

Shape suffixes: B batch, T tokens.
"""

from collections.abc import Iterator

import numpy as np

from models.errors import ExportFailed
from models.exports.card import Target, target_of
from models.exports.formats import Run
from models.preprocessing import Normalisation
from models.signature import ImageInput, TokenInput
from models.weights import ModelCard

TOLERANCE = 1e-4
"""Of the largest output: frameworks and compilers add up in different orders."""
BATCHES = (1, 5)
TEXTS = ((1, 10**6), (2, 1), (5, 7))
"""Batch sizes for texts, and tokens of the longest; no text is longer than the model takes."""


def largest_difference(run: Run, reference: Run, card: ModelCard) -> float:
    """The largest difference of any output over the largest output of its batch (at least 1, in the units of logits).

    Both get the same samples, in batches of several sizes; texts have several lengths. Raises ExportFailed where the
    two differ by more than `TOLERANCE`.
    """
    target = target_of(card)
    differences = []
    for x in batches(card):
        expected, actual = _in_units(reference(x), target), run(x)
        if actual.shape != expected.shape or actual.dtype != np.float32:
            raise ExportFailed(
                f"For a batch of shape {list(x.shape)} the exported file gives {actual.dtype} {list(actual.shape)};"
                f" the model gives float32 {list(expected.shape)}."
            )
        differences.append(_difference(actual, expected, target))
    found = float(np.max(differences))  # NaN if any is
    if not found <= TOLERANCE:
        raise ExportFailed(
            f"The exported file's outputs differ from the model's by {found:.2g} of the largest; at most"
            f" {TOLERANCE:g} is taken. The file was thrown away."
        )
    return found


def batches(card: ModelCard) -> Iterator[np.ndarray]:
    """Raw samples of batches of several sizes, as `models.engine.Predictor.logits` takes them."""
    generator = np.random.default_rng(0)
    input = card.signature.input
    if isinstance(input, TokenInput):
        for size, longest in TEXTS:
            yield texts(generator, input, size, min(longest, input.length))
        return
    for size in BATCHES:
        yield samples(generator, card, size)


def samples(generator: np.random.Generator, card: ModelCard, size: int) -> np.ndarray:
    """So many random raw samples, as `models.engine.Predictor.logits` takes them; texts as long as the model takes."""
    input = card.signature.input
    if isinstance(input, TokenInput):
        return texts(generator, input, size, input.length)
    if isinstance(input, ImageInput):
        return generator.integers(0, 256, (size, *input.shape), dtype=np.uint8)
    return _rows(generator, card.preprocessing.normalisation, (size, *input.shape))


def texts(generator: np.random.Generator, input: TokenInput, size: int, longest: int) -> np.ndarray:
    """Token ids of texts of several lengths, the first the longest, int32 [B, T]."""
    lengths_B1 = generator.integers(1, longest + 1, (size, 1))
    lengths_B1[0] = longest
    ids_BT = generator.integers(0, input.vocabulary - 1, (size, longest), dtype=np.int32)
    ids_BT += ids_BT >= input.padding  # any id but the padding
    texts_BT: np.ndarray = np.where(np.arange(longest) < lengths_B1, ids_BT, np.int32(input.padding))
    return texts_BT


def _rows(
    generator: np.random.Generator, normalisation: Normalisation | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Rows as they occur: about the mean of every column, as far from it as its values are."""
    rows: np.ndarray = generator.standard_normal(shape, np.float32)
    if normalisation is not None:
        rows = (rows / normalisation.inverse_std + normalisation.mean).astype(np.float32)
    return rows


def _in_units(logits: np.ndarray, target: Target | None) -> np.ndarray:
    return logits if target is None else (logits * target.std + target.mean).astype(np.float32)


def _difference(actual: np.ndarray, expected: np.ndarray, target: Target | None) -> float:
    unit = 1.0 if target is None else target.std
    scale = max(unit, float(np.abs(expected).max()))
    return float(np.abs(actual.astype(np.float64) - expected).max() / scale)
