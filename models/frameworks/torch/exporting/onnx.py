"""ONNX files (https://onnx.ai), checked with ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from models.exports.card import ExportCard
from models.exports.formats import Run
from models.frameworks.torch.exporting.graph import program
from models.weights import WeightsFile


def write(model: WeightsFile, card: ExportCard, path: Path) -> None:
    """See `models.exports.formats.Writer`. The card's fields are the file's metadata, all but texts as JSON."""
    free = {axis: name for axis, name in enumerate(card.input.shape) if isinstance(name, str)}
    made = torch.onnx.export(
        program(model, card),
        dynamo=True,
        dynamic_shapes={card.input.name: free},  # the program's are free already: this is how they are called
        output_names=[card.output.name],
        verbose=False,
    )
    assert made is not None
    for field, value in card.model_dump(mode="json").items():
        made.model.metadata_props[field] = value if isinstance(value, str) else json.dumps(value)
    made.save(path, external_data=False)


def read(path: Path) -> Run:
    """See `models.exports.formats.Writer`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()

    def run(x: np.ndarray) -> np.ndarray:
        raw = x.astype(np.int64) if x.dtype == np.int32 else x
        output: np.ndarray = session.run(None, {port.name: raw})[0]
        return output

    return run
