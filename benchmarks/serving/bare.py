"""What is possible without a server: threads that do nothing but run batches."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.engine import Definition, is_installed, load_server
from models.serving import ServingPrecision
from models.weights import WeightsFile

BATCH = 32
PRECISIONS: dict[str, ServingPrecision] = {
    "bare loop of openvino": "float32",
    "bare loop of openvino-bfloat16": "bfloat16",
}


def bare_loops(script: Path, file: WeightsFile) -> Iterator[tuple[str, float]]:
    """Pictures per second of two threads that do nothing but run batches: of the folded network, and of OpenVINO in
    both precisions."""
    torch.set_num_threads(1)
    network = torch.jit.load(script)
    x = np.zeros((BATCH, 32, 32, 3), np.uint8)

    def folded() -> None:
        torch.set_flush_denormal(True)  # of this thread
        with torch.inference_mode():
            network(torch.from_numpy(x))

    yield "bare loop", _rate(folded)
    if is_installed("openvino"):
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        server = load_server("openvino")
        for name, precision in PRECISIONS.items():
            predictor = server.predictor(definition, file.weights, device="cpu", precision=precision)
            yield name, _rate(partial(predictor.logits, x))


def _rate(batch: Callable[[], object], seconds: float = 5.0) -> float:
    counts = [0, 0]

    def run(thread: int) -> None:
        while time.monotonic() < until:
            batch()
            counts[thread] += BATCH

    for _ in range(4):
        batch()
    began = time.monotonic()
    until = began + seconds
    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)
