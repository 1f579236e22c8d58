"""A network with fixed weights, in PyTorch."""

from collections.abc import Mapping

import numpy as np
import torch

from models.engine import Definition, is_normalised
from models.frameworks.torch.devices import describe, memory_for
from models.frameworks.torch.folding import folded, noise
from models.frameworks.torch.samples import entrance
from models.frameworks.torch.tensors import network_of
from models.serving import ServingPrecision
from models.signature import ImageInput
from models.weights import Weights

DTYPES: Mapping[ServingPrecision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchPredictor:
    """See `models.engine.Predictor`. In evaluation mode a call changes nothing, so threads may share it."""

    def __init__(
        self, definition: Definition, weights: Weights, device: torch.device, precision: ServingPrecision
    ) -> None:
        self.device = describe(device)
        self._device = device
        self._input = definition.signature.input
        self._dtype = DTYPES[precision]
        network = network_of(definition, weights, torch.float32, device).eval()
        if isinstance(self._input, ImageInput):
            network = folded(network, noise(self._input, device))
        self._network = network.to(self._dtype)
        self._enter = entrance(definition, torch.float32, device)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """See `models.engine.Predictor.logits`."""
        writable = x if x.flags.writeable else x.copy()  # torch warns of views that it must not write to
        with memory_for(len(x), self._device), torch.inference_mode():
            raw = torch.from_numpy(writable).to(self._device)
            entered = raw if is_normalised(x, self._input) else self._enter(raw)
            if entered.is_floating_point():
                entered = entered.to(self._dtype)
            logits_BK: np.ndarray = self._network(entered).float().cpu().numpy()
        return logits_BK

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        """See `models.engine.Predictor.warm_up`: nothing is compiled here."""
