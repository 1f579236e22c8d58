"""A network as a graph of OpenVINO's, by way of what torch traces. Only the process of `exporter` imports this."""

import models.frameworks.torch.vision  # noqa: F401 - before anything that traces

# isort: split
import warnings
from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager, OpConversionFailure
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from models.engine import Definition
from models.frameworks.openvino.graph_files import write
from models.frameworks.torch.folding import folded, noise
from models.frameworks.torch.tensors import network_of
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import Weights

EXAMPLE_TOKENS = 16


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
    decoder = TorchScriptPythonDecoder(_traced(definition, weights))  # it has to live until all is converted
    model: openvino.Model = frontend.convert(frontend.load(decoder))
    return model


def _traced(definition: Definition, weights: Weights) -> torch.jit.ScriptModule:
    """The network in evaluation mode. Batch size and number of tokens are free.

    torch.export would take longer, for torch's compiler, which it imports, and for OpenVINO, which has it trace
    everything again. And OpenVINO lacks its loops, but has the LSTM of a trace.
    """
    cpu = torch.device("cpu")
    network = network_of(definition, weights, torch.float32, cpu).eval().requires_grad_(False)
    match definition.signature.input:
        case ImageInput() as image:
            x = noise(image, cpu)
            network = folded(network, x)  # OpenVINO would; there is half as much to trace
        case TableInput(features=features):
            x = torch.zeros(2, features)
        case TokenInput(length=length, padding=padding):
            # Any id but the padding: no text is empty.
            x = torch.full((2, min(EXAMPLE_TOKENS, length)), int(padding == 0), dtype=torch.int64)
        case other:
            raise AssertionError(f"no network takes {other}")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch would rather export, and that shapes are looked at
        traced: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, x, check_trace=False
        )
    return traced
