"""A network with fixed weights, in JAX.

Shape suffixes: B batch, K outputs.
"""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

import jax
import numpy as np

from models.architecture import Spec
from models.engine import Definition
from models.frameworks.jax.compilation import Compiler
from models.frameworks.jax.devices import describe, scope
from models.frameworks.jax.images import normalised
from models.frameworks.jax.network import Network, Tensors
from models.signature import Signature
from models.weights import Weights

LARGEST_BUCKET = 64
"""Batches are filled up to a power of two, each compiled once; larger ones run in pieces of this size."""


class Forward:
    """The compiled forward passes of one architecture, shared by all its weights."""

    def __init__(self, spec: Spec, signature: Signature, device: jax.Device) -> None:
        self._device = device
        with scope(device, "float32"):
            self.network = Network(spec, signature, "float32")
        self._compiler = Compiler(device, convolves=self.network.convolves)
        self._compiled: dict[int, Callable[..., jax.Array]] = {}
        self._lock = Lock()

    def __call__(self, tensors: Tensors, x: np.ndarray, mean: jax.Array, inverse_std: jax.Array) -> jax.Array:
        """Logits [B, K] of raw samples, perhaps still on their way; B is a bucket."""
        arguments = (tensors, x, mean, inverse_std)
        compiled = self._compiled.get(len(x)) or self._compile(arguments)
        return compiled(*arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., jax.Array]:
        """The pass for this bucket; threads that need the same one wait for the first."""
        bucket = len(arguments[1])
        with self._lock, scope(self._device, "float32"):
            if bucket not in self._compiled:
                self._compiled[bucket] = self._compiler.compile(self._logits, *arguments)
            return self._compiled[bucket]

    def _logits(self, tensors: Tensors, x: Any, mean: Any, inverse_std: Any) -> jax.Array:
        return self.network.apply(tensors, normalised(x, mean, inverse_std), training=False)[0]


@lru_cache(maxsize=32)
def _forward(spec: Spec, signature: Signature, device: jax.Device) -> Forward:
    return Forward(spec, signature, device)


class JaxPredictor:
    """See `models.engine.Predictor`. Always float32, whatever precision the network was trained in."""

    def __init__(self, definition: Definition, weights: Weights, device: jax.Device) -> None:
        self.device = describe(device)
        normalisation = definition.normalisation
        self._forward = _forward(definition.spec, definition.signature, device)
        with scope(device, "float32"):
            self._tensors = self._forward.network.to_device(weights, device)
            self._normalisation = jax.device_put((normalisation.mean, normalisation.inverse_std), device)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """See `models.engine.Predictor.logits`."""
        pieces = [x[start : start + LARGEST_BUCKET] for start in range(0, len(x), LARGEST_BUCKET)]
        logits = [self._forward(self._tensors, _filled(piece), *self._normalisation) for piece in pieces]
        read = [np.asarray(some)[: len(piece)] for some, piece in zip(logits, pieces, strict=True)]
        return np.concatenate(read)


def _filled(x: np.ndarray) -> np.ndarray:
    """x with rows of zeros up to the next bucket."""
    missing = (1 << (len(x) - 1).bit_length()) - len(x)
    return np.concatenate((x, np.zeros((missing, *x.shape[1:]), x.dtype))) if missing else x
