"""A network with fixed weights, as a graph that OpenVINO has compiled: BatchNorm folded, layers fused.

Shape suffixes: B batch, H height, W width, C channels, T tokens, K outputs.
"""

import os
import threading
from collections.abc import Mapping
from time import perf_counter

import numpy as np
import openvino

from models.engine import Definition, is_normalised
from models.frameworks.openvino.graph_files import CORE
from models.frameworks.openvino.graphs import graph_of
from models.kept_files import KeptFiles
from models.serving import ServingPrecision
from models.signature import ImageInput, Input, TokenInput
from models.weights import Weights

HINTS: Mapping[ServingPrecision, str] = {"float32": "f32", "bfloat16": "bf16"}
LEAST_THREADS = 4
"""Of one batch, where there are as many. On two cores, one batch after the other on both takes half as long as two
beside each other, and so many requests a second are answered either way."""
SLIGHT_S = 0.001
"""A network that computes a sample faster than this has one thread for a batch: a second one would take longer to
wake."""


class OpenVINOPredictor:
    """See `models.engine.Predictor`. Each thread has a request of its own to the compiled graph."""

    device = "cpu"

    def __init__(
        self,
        definition: Definition,
        weights: Weights,
        precision: ServingPrecision,
        kept: KeptFiles | None,
        cores: int | None,
    ) -> None:
        self._input = definition.signature.input
        self._normalisation = definition.normalisation
        cores = cores or _cores()
        graph = graph_of(definition, weights, kept)
        self._compile(graph, precision, cores, streams=cores)
        if self._seconds() > SLIGHT_S:
            self._compile(graph, precision, cores, streams=streams(cores, _threads(cores)))

    def _compile(self, graph: openvino.Model, precision: ServingPrecision, cores: int, streams: int) -> None:
        """`streams`: batches that are computed at a time, on all `cores` together."""
        self.streams = streams
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(cores),
            "ENABLE_CPU_PINNING": "NO",
        }
        self._compiled = CORE.compile_model(graph, "CPU", options)
        self._threads = threading.local()

    def _seconds(self) -> float:
        """How long a sample takes, at most as many times as it takes to see that it is long."""
        x = _example(self._input)
        self.logits(x)  # plans
        found = []
        for _ in range(3):
            began = perf_counter()
            self.logits(x)
            found.append(perf_counter() - began)
            if found[-1] > 5 * SLIGHT_S:
                break
        return min(found)

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


def streams(cores: int, threads: int) -> int:
    """Batches at a time: as many as leave each its threads, and no two threads on a core."""
    return max(1, cores // max(threads, LEAST_THREADS))


def _example(input: Input) -> np.ndarray:
    """One raw sample [1, ...], of texts a longest one."""
    dtypes = {"image": np.uint8, "table": np.float32, "tokens": np.int32}
    filling = int(isinstance(input, TokenInput) and input.padding == 0)
    return np.full((1, *input.shape), filling, dtypes[input.kind])


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _threads(cores: int) -> int:
    """Those of one batch, by the variable that all engines go by."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else cores
