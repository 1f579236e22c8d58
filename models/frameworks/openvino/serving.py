"""A network with fixed weights, as a graph that OpenVINO has compiled: BatchNorm folded, layers fused.

Shape suffixes: B batch, H height, W width, C channels, T tokens, K outputs.
"""

import logging
import os
import threading
from collections.abc import Mapping

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager, OpConversionFailure
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from torch.export import Dim, ExportedProgram

from models.engine import Definition, is_normalised
from models.errors import NotSupported
from models.frameworks.torch.tensors import network_of
from models.serving import ServingPrecision
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import Weights

HINTS: Mapping[ServingPrecision, str] = {"float32": "f32", "bfloat16": "bf16"}
EXAMPLE_TOKENS = 16
CORE = openvino.Core()
EXPORTING = threading.Lock()
"""torch traces by replacing methods of all modules for a while: two traces at once would not put them back."""
# With a newer torch than OpenVINO knows, it tells of every operation that has gone, needed or not.
logging.getLogger().addFilter(lambda record: record.module != "fx_decoder")


class OpenVINOPredictor:
    """See `models.engine.Predictor`. Each thread has a request of its own to the compiled graph."""

    device = "cpu"

    def __init__(self, definition: Definition, weights: Weights, precision: ServingPrecision) -> None:
        self._input = definition.signature.input
        self._normalisation = definition.normalisation
        cores = _cores()
        # As many batches at a time as leave each the threads that torch has for one, and no two threads on a core.
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": str(max(1, cores // torch.get_num_threads())),
            "INFERENCE_NUM_THREADS": str(cores),
            "ENABLE_CPU_PINNING": "NO",
        }
        self._compiled = CORE.compile_model(_graph(definition, weights), "CPU", options)
        self._threads = threading.local()

    def logits(self, x: np.ndarray) -> np.ndarray:
        """See `models.engine.Predictor.logits`."""
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._compiled.create_infer_request()
        logits_BK: np.ndarray = request.infer([self._entered(x)])[0].copy()  # the request will use it again
        return logits_BK

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        """See `models.engine.Predictor.warm_up`: sizes are planned when they first come, in little time."""

    def _entered(self, x: np.ndarray) -> np.ndarray:
        """What the graph takes: normalised images [B, C, H, W], normalised rows, or int64 tokens."""
        if self._normalisation is None:
            return x.astype(np.int64)
        if is_normalised(x, self._input):
            return np.ascontiguousarray(x)
        if not isinstance(self._input, ImageInput):
            rows: np.ndarray = (x - self._normalisation.mean) * self._normalisation.inverse_std
            return rows
        entered_BCHW = np.empty((len(x), x.shape[3], *x.shape[1:3]), np.float32)
        entered_BHWC = entered_BCHW.transpose(0, 2, 3, 1)
        np.subtract(x, self._normalisation.mean, out=entered_BHWC)
        np.multiply(entered_BHWC, self._normalisation.inverse_std, out=entered_BHWC)
        return entered_BCHW


def _graph(definition: Definition, weights: Weights) -> openvino.Model:
    """The network from its normalised input on. Raises NotSupported."""
    # `openvino.convert_model` does the same, and reports its use to the makers besides.
    frontend = FrontEndManager().load_by_framework("pytorch")
    try:
        with EXPORTING:
            decoder = TorchFXPythonDecoder.from_exported_program(_program(definition, weights))
            model: openvino.Model = frontend.convert(frontend.load(decoder))
    except OpConversionFailure:
        raise NotSupported(
            f"The engine 'openvino' cannot run {definition.spec.name!r}: it lacks one of its operations. Use another.",
            pointer="/engine",
        ) from None
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


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
