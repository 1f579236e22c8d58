"""A network with fixed weights, in JAX.

Shape suffixes: B batch, K outputs.
"""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.architecture import Spec
from models.engine import Definition
from models.frameworks.jax.compilation import Compiler
from models.frameworks.jax.devices import describe, scope
from models.frameworks.jax.images import normalised
from models.frameworks.jax.network import Network, Tensors
from models.frameworks.jax.samples import constants, filled
from models.lengths import widened
from models.signature import Signature, TokenInput
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
        self._compiled: dict[tuple[int, ...], Callable[..., jax.Array]] = {}
        self._lock = Lock()

    def __call__(
        self, tensors: Tensors, x: np.ndarray, mean: jax.Array | None, inverse_std: jax.Array | None
    ) -> jax.Array:
        """Logits [B, K] of raw samples, perhaps still on their way; B is a bucket, and so is the width of texts."""
        arguments = (tensors, x, mean, inverse_std)
        compiled = self._compiled.get(x.shape) or self._compile(arguments)
        return compiled(*arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., jax.Array]:
        """The pass for samples of this shape; threads that need the same one wait for the first."""
        shape = arguments[1].shape
        with self._lock, scope(self._device, "float32"):
            if shape not in self._compiled:
                self._compiled[shape] = self._compiler.compile(self._logits, *arguments)
            return self._compiled[shape]

    def _logits(self, tensors: Tensors, x: Any, mean: Any, inverse_std: Any) -> jax.Array:
        return self.network.apply(tensors, normalised(x, mean, inverse_std), training=False)[0]


@lru_cache(maxsize=32)
def _forward(spec: Spec, signature: Signature, device: jax.Device) -> Forward:
    return Forward(spec, signature, device)


class JaxPredictor:
    """See `models.engine.Predictor`. Always float32, whatever precision the network was trained in."""

    def __init__(self, definition: Definition, weights: Weights, device: jax.Device) -> None:
        self.device = describe(device)
        self._input = definition.signature.input
        self._forward = _forward(definition.spec, definition.signature, device)
        with scope(device, "float32"):
            self._tensors = self._forward.network.to_device(weights, device)
            self._normalisation = constants(definition.normalisation, jnp.float32, device)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """See `models.engine.Predictor.logits`."""
        if isinstance(self._input, TokenInput):
            x = widened(x, self._input)
        pieces = [x[start : start + LARGEST_BUCKET] for start in range(0, len(x), LARGEST_BUCKET)]
        logits = [self._forward(self._tensors, _bucket(piece), *self._normalisation) for piece in pieces]
        read = [np.asarray(some)[: len(piece)] for some, piece in zip(logits, pieces, strict=True)]
        return np.concatenate(read)


def _bucket(x: np.ndarray) -> np.ndarray:
    """The samples, filled up to the next bucket."""
    return filled(x, 1 << (len(x) - 1).bit_length())
