"""A stored model as one file in another format."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from models import engine
from models.engine import Definition
from models.exports import formats
from models.exports.card import card_of
from models.exports.checking import largest_difference
from models.exports.formats import Format
from models.weights import WeightsFile, read_weights


@dataclass(frozen=True)
class Exported:
    """A file that was checked. `largest_difference`: see `models.exports.checking`."""

    sha256: str
    size_bytes: int
    largest_difference: float


def export(weights: Path, format: Format, output: Path) -> Exported:
    """Write the model in this file to `output`, read that back, and compare it with the model.

    Raises CorruptArtifact, InvalidInput, NotInstalled, or ExportFailed; then what may be at `output` is worth nothing.
    """
    format.check_installed()
    model = read_weights(weights)
    format.check_takes(model.card.model)
    writer = formats.writer(format)
    writer.write(model, card_of(model.card, format.name, format.ids), output)
    difference = largest_difference(writer.read(output), reference(model, format).logits, model.card)
    with output.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Exported(digest, output.stat().st_size, difference)


def reference(model: WeightsFile, format: Format) -> engine.Predictor:
    """The model itself, in the framework that writes the format."""
    card = model.card
    definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
    return engine.load(format.framework).predictor(definition, model.weights, device="cpu")
