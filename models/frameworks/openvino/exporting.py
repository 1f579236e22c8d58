"""A network as a graph of OpenVINO's, by way of torch.export. Only the process of `exporter` imports this."""

import models.frameworks.torch.vision  # noqa: F401 - before anything that traces

# isort: split
import logging
from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager, OpConversionFailure
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch.export import Dim, ExportedProgram

from models.engine import Definition
from models.frameworks.openvino.graph_files import write
from models.frameworks.torch.folding import folded, noise
from models.frameworks.torch.tensors import network_of
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import Weights

EXAMPLE_TOKENS = 16
# With a newer torch than OpenVINO knows, it tells of every operation that has gone, needed or not.
logging.getLogger().addFilter(lambda record: record.module != "fx_decoder")


class MissingOperation(Exception):
    """OpenVINO lacks one of the network's operations."""


def export(definition: Definition, weights: Weights, path: Path) -> None:
    """Write the network from its normalised input on, see `graph_files`. Raises MissingOperation."""
    try:
        graph = _exported(definition, weights)
    except OpConversionFailure as error:
        raise MissingOperation from error
    write(graph, path)


def _exported(definition: Definition, weights: Weights) -> openvino.Model:
    # `openvino.convert_model` does the same, and reports its use to the makers besides.
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder.from_exported_program(_program(definition, weights))
    model: openvino.Model = frontend.convert(frontend.load(decoder))
    return model


def _program(definition: Definition, weights: Weights) -> ExportedProgram:
    """The graph in evaluation mode. Batch size and number of tokens are free."""
    cpu = torch.device("cpu")
    network = network_of(definition, weights, torch.float32, cpu).eval().requires_grad_(False)
    axes = {0: Dim("batch", min=1)}
    match definition.signature.input:
        case ImageInput():
            x = noise(definition.signature.input, cpu)
            network = folded(network, x)  # OpenVINO would; there is half as much to trace
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
