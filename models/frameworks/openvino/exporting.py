"""A network as a graph of OpenVINO's, by way of torch.export: `python -m models.frameworks.openvino.exporting FILE`.

Reads the pickled definition and weights, writes the graph to the file, and ends with status `LACKING` where OpenVINO
cannot have it; at once when its input is closed before. See `models.frameworks.openvino.graphs`.
"""

import models.frameworks.torch.vision  # noqa: F401 - before anything that traces

# isort: split
import logging
import os
import pickle
import sys
from pathlib import Path
from threading import Thread

import openvino
import torch
from openvino.frontend import FrontEndManager, OpConversionFailure
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch.export import Dim, ExportedProgram

from models.engine import Definition
from models.frameworks.openvino.graphs import LACKING, write
from models.frameworks.torch.tensors import network_of
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import Weights

EXAMPLE_TOKENS = 16
# With a newer torch than OpenVINO knows, it tells of every operation that has gone, needed or not.
logging.getLogger().addFilter(lambda record: record.module != "fx_decoder")


def exported(definition: Definition, weights: Weights) -> openvino.Model:
    """The network from its normalised input on. Raises OpConversionFailure."""
    # `openvino.convert_model` does the same, and reports its use to the makers besides.
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder.from_exported_program(_program(definition, weights))
    model: openvino.Model = frontend.convert(frontend.load(decoder))
    return model


def _program(definition: Definition, weights: Weights) -> ExportedProgram:
    """The graph in evaluation mode. Batch size and number of tokens are free."""
    network = network_of(definition, weights, torch.float32, torch.device("cpu"))
    network.eval().requires_grad_(False)
    axes = {0: Dim("batch", min=1)}
    match definition.signature.input:
        case ImageInput(height=height, width=width, channels=channels):
            x = torch.zeros(2, channels, height, width)
        case TableInput(features=features):
            x = torch.zeros(2, features)
        case TokenInput(length=length, padding=padding):
            # Any id but the padding: no text is empty.
            x = torch.full((2, min(EXAMPLE_TOKENS, length)), int(padding == 0), dtype=torch.int64)
            axes[1] = Dim("tokens", min=1, max=length)
        case other:
            raise AssertionError(f"no network takes {other}")
    with torch.no_grad():
        return torch.export.export(network, (x,), dynamic_shapes=(axes,))


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing comes
    os._exit(1)


def main() -> None:
    definition, weights = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    Thread(target=_end_with_input, daemon=True).start()
    try:
        graph = exported(definition, weights)
    except OpConversionFailure:
        sys.exit(LACKING)
    write(graph, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
