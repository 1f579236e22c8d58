"""Training state on disk, in canonical names: written by one framework, resumed in either.

A checkpoint is a folder: `state.safetensors` (tensors `weights/<name>`, `slots/<slot>/<name>`, `best/<name>`)
and `manifest.json`, written last, with the position, the running sums, the hash of the tensors and the model's card:
whoever goes on from here uses the very same network, normalisation and tokenizer.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from models import tensor_files
from models.durable import replacing, sha256_of
from models.errors import CorruptArtifact
from models.weights import ModelCard, Weights

Slots = dict[str, dict[str, np.ndarray]]
FORMAT = "tandem-checkpoint-1"


class Sums(NamedTuple):
    """Sums over `steps` steps: of the mean losses, and of correct predictions (regression: absolute errors)."""

    loss: float = 0.0
    hits: float = 0.0
    steps: int = 0

    def plus(self, loss: float, hits: float) -> "Sums":
        """These sums and one more step."""
        return Sums(self.loss + loss, self.hits + hits, self.steps + 1)


@dataclass
class TrainingState:
    """Where a run stands after `step` optimizer steps."""

    weights: Weights
    slots: Slots = field(default_factory=dict)
    step: int = 0
    epoch_sums: Sums = field(default_factory=Sums)
    """Over the steps of the current epoch."""
    interval_sums: Sums = field(default_factory=Sums)
    """Over the steps since the last metric point."""
    train_s: float = 0.0
    """Seconds of training so far, over all attempts."""
    best_value: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    best_weights: Weights = field(default_factory=dict)
    card: ModelCard | None = None
    """Of the model being trained; None in checkpoints of Tandem 0.1."""


def save_state(state: TrainingState, folder: Path) -> None:
    """Write a checkpoint; it counts only once its manifest is there."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights/{name}": array for name, array in state.weights.items()}
    tensors |= {
        f"slots/{slot}/{name}": array
        for slot, arrays in state.slots.items()
        for name, array in arrays.items()
    }
    tensors |= {f"best/{name}": array for name, array in state.best_weights.items()}
    with replacing(folder / "state.safetensors") as path:
        tensor_files.write(tensors, path, {})
    manifest = {
        "format": FORMAT,
        "sha256": sha256_of(folder / "state.safetensors"),
        "step": state.step,
        "epoch_sums": state.epoch_sums,
        "interval_sums": state.interval_sums,
        "train_s": state.train_s,
        "best_value": state.best_value,
        "best_step": state.best_step,
        "evaluations_without_gain": state.evaluations_without_gain,
        "card": None if state.card is None else state.card.model_dump(mode="json"),
    }
    with replacing(folder / "manifest.json") as path:
        path.write_text(json.dumps(manifest, indent=2))


def load_state(folder: Path) -> TrainingState:
    """Read a checkpoint. Raises CorruptArtifact if it is incomplete or its hash does not match."""
    manifest = _manifest(folder)
    path = folder / "state.safetensors"
    try:
        if sha256_of(path) != manifest["sha256"]:
            raise CorruptArtifact(f"The checkpoint at step {manifest['step']} does not match its hash.")
        _, tensors = tensor_files.read(path)
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"The checkpoint at step {manifest['step']} cannot be read: {error}") from error
    return TrainingState(
        weights=_part(tensors, "weights/"),
        slots=_slots(_part(tensors, "slots/")),
        best_weights=_part(tensors, "best/"),
        step=manifest["step"],
        epoch_sums=Sums(*manifest["epoch_sums"]),
        interval_sums=Sums(*manifest["interval_sums"]),
        train_s=manifest["train_s"],
        best_value=manifest["best_value"],
        best_step=manifest["best_step"],
        evaluations_without_gain=manifest["evaluations_without_gain"],
        card=_card(folder, manifest.get("card")),
    )


def _card(folder: Path, stored: object) -> ModelCard | None:
    try:
        return None if stored is None else ModelCard.model_validate_json(json.dumps(stored))
    except ValidationError as error:
        raise CorruptArtifact(f"The checkpoint {folder.name} describes its model wrongly.") from error


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"The checkpoint {folder.name} has no readable manifest.") from error
    if manifest.get("format") != FORMAT:
        raise CorruptArtifact(f"The checkpoint {folder.name} is of another format than {FORMAT}.")
    return manifest


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}


def _slots(tensors: dict[str, np.ndarray]) -> Slots:
    slots: Slots = {}
    for key, array in tensors.items():
        slot, _, name = key.partition("/")
        slots.setdefault(slot, {})[name] = array
    return slots
