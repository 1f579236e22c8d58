"""A trained model in one file: canonical weights as safetensors, and in its header what serving needs.

Names and layouts are torch's `state_dict`, so the file loads into the torch network as it is. The header's
metadata has `tandem`, JSON with the network's spec, its signature, preprocessing and classes; and `format`, which
transformers wants to see before it loads a file. (Files of Tandem 0.1 lack it.)
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from models import tensor_files
from models.catalog import ModelSpec, declarations
from models.errors import CorruptArtifact, InvalidInput, nearest
from models.preprocessing import Preprocessing
from models.signature import Signature

Weights = dict[str, np.ndarray]
"""Canonical tensors by torch's `state_dict` names."""


class ModelCard(BaseModel):
    """Everything about a model but its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: ModelSpec
    signature: Signature
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class WeightsFile:
    card: ModelCard
    weights: Weights


def write_weights(file: WeightsFile, path: Path) -> None:
    """Write the file; equal models give equal bytes. The caller moves it to where it belongs."""
    tensor_files.write(file.weights, path, {"format": "pt", "tandem": file.card.model_dump_json()})


def read_weights(path: Path) -> WeightsFile:
    """Read and check a file; the weights lie in it, copy-on-write.

    Raises CorruptArtifact if it is damaged or does not fit its own spec.
    """
    try:
        metadata, weights = tensor_files.read(path)
        card = ModelCard.model_validate_json(metadata["tandem"])
        check_weights(weights, card)
    except (OSError, KeyError, ValueError, InvalidInput) as error:
        raise _unusable(path, error) from error
    return WeightsFile(card, weights)


def read_card(path: Path) -> ModelCard:
    """Everything but the weights, without reading these. Raises CorruptArtifact."""
    try:
        return ModelCard.model_validate_json(tensor_files.read_metadata(path)["tandem"])
    except (OSError, KeyError, ValueError) as error:
        raise _unusable(path, error) from error


def check_weights(weights: Weights, card: ModelCard) -> None:
    """Raise InvalidInput unless these are exactly the network's tensors, in shape, and finite."""
    expected = declarations(card.model, card.signature)
    check_names(weights.keys(), expected.keys())
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise InvalidInput(
                f"{name!r} has shape {list(weights[name].shape)}; the network needs {list(tensor.shape)}.",
                code="shape_mismatch",
            )
        if not np.isfinite(weights[name]).all():
            raise InvalidInput(f"{name!r} holds values that are not finite.", code="not_finite")


def check_names(found: Collection[str], expected: Collection[str]) -> None:
    """Raise InvalidInput, with the nearest name, unless all expected tensors are there and no others."""
    missing, unknown = set(expected) - set(found), set(found) - set(expected)
    if missing:
        hint = _nearest(missing, unknown, "the file has")
        raise InvalidInput(f"The weights lack {_some(missing)}.{hint}", code="missing_weights")
    if unknown:
        hint = _nearest(unknown, expected, "the nearest that it has is")
        raise InvalidInput(f"The network has no {_some(unknown)}.{hint}", code="unknown_weights")


def _nearest(wanted: Collection[str], there: Collection[str], lead: str) -> str:
    first = min(wanted)
    near = nearest(first, there)
    return "" if near is None else f" Instead of {first!r} {lead} {near!r}."


def _some(names: set[str]) -> str:
    first = sorted(names)
    return ", ".join(map(repr, first[:3])) + (f" and {len(first) - 3} more" if len(first) > 3 else "")


def _unusable(path: Path, error: Exception) -> CorruptArtifact:
    return CorruptArtifact(f"The weights file {path.name} cannot be used: {error}")
