"""A trained model in one file: canonical weights as safetensors, and in its header what serving needs.

Names and layouts are torch's `state_dict`, so the file loads into the torch network as it is. The header's
metadata has one key, `tandem`: JSON with the network's spec, its signature, preprocessing and classes.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.catalog import ModelSpec, declarations
from models.errors import CorruptArtifact, InvalidInput
from models.preprocessing import Preprocessing
from models.signature import Signature

Weights = dict[str, np.ndarray]
"""Canonical tensors by torch's `state_dict` names."""

LARGEST_HEADER_BYTES = 4 * 1024 * 1024


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
    """Write the file; the caller moves it to where it belongs."""
    save_file(in_c_order(file.weights), path, metadata={"tandem": file.card.model_dump_json()})


def in_c_order(weights: Weights) -> Weights:
    """The same tensors with rows contiguous: safetensors writes memory as it lies, a transposed view wrongly."""
    # np.ascontiguousarray would turn a 0-d counter into shape (1,).
    return {name: np.asarray(array, order="C") for name, array in weights.items()}


def read_weights(path: Path) -> WeightsFile:
    """Read and check a file. Raises CorruptArtifact if it is damaged or does not fit its own spec."""
    try:
        card = ModelCard.model_validate_json(_metadata(path)["tandem"])
        weights = load_file(path)
        check_weights(weights, card)
    except (OSError, KeyError, ValueError, SafetensorError, ValidationError, InvalidInput) as error:
        raise CorruptArtifact(f"The weights file {path.name} cannot be used: {error}") from error
    return WeightsFile(card, weights)


def check_weights(weights: Weights, card: ModelCard) -> None:
    """Raise InvalidInput unless these are exactly the network's tensors, in shape, and finite."""
    expected = declarations(card.model, card.signature)
    if missing := expected.keys() - weights.keys():
        raise InvalidInput(f"The weights lack {_some(missing)}.", code="missing_weights")
    if unknown := weights.keys() - expected.keys():
        raise InvalidInput(f"The network has no {_some(unknown)}.", code="unknown_weights")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise InvalidInput(
                f"{name!r} has shape {list(weights[name].shape)}; the network needs {list(tensor.shape)}.",
                code="shape_mismatch",
            )
        if not np.isfinite(weights[name]).all():
            raise InvalidInput(f"{name!r} holds values that are not finite.", code="not_finite")


def _metadata(path: Path) -> dict[str, str]:
    """The header's metadata; its size is checked before it is read."""
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError("it is shorter than a header")
        (size,) = struct.unpack("<Q", prefix)
        if size > LARGEST_HEADER_BYTES:
            raise ValueError(f"its header claims {size} bytes")
        header = json.loads(file.read(size))
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _some(names: set[str]) -> str:
    first = sorted(names)
    return ", ".join(map(repr, first[:3])) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
