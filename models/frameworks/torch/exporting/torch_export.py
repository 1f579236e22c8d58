"""`torch.export`'s .pt2 files: run by `torch.export.load(file).module()`, or compiled ahead of time."""

import warnings
from pathlib import Path

import numpy as np
import torch

from models.exports.card import ExportCard
from models.exports.formats import Run
from models.frameworks.torch.exporting.graph import program
from models.weights import WeightsFile


def write(model: WeightsFile, card: ExportCard, path: Path) -> None:
    """See `models.exports.formats.Writer`. The card is the extra file `card.json`."""
    with path.open("wb") as file, warnings.catch_warnings():
        # A channels_last weight is no contiguous piece of memory; what the warning fears concerns GPUs.
        warnings.filterwarnings("ignore", "No complete tensor found in the group")
        torch.export.save(program(model, card), file, extra_files={"card.json": card.model_dump_json()})


def read(path: Path) -> Run:
    """See `models.exports.formats.Writer`."""
    with path.open("rb") as file:
        network = torch.export.load(file).module()

    def run(x: np.ndarray) -> np.ndarray:
        raw = torch.tensor(x)
        with torch.inference_mode():
            output: np.ndarray = network(raw.long() if raw.dtype == torch.int32 else raw).numpy()
        return output

    return run
