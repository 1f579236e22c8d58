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
from models.engine import Definition, is_normalised
from models.frameworks.jax.compilation import Compiler
from models.frameworks.jax.devices import describe, scope
from models.frameworks.jax.images import normalised
from models.frameworks.jax.network import DTYPES, Network, Tensors
from models.frameworks.jax.samples import constants, filled
from models.lengths import widened
from models.serving import ServingPrecision
from models.signature import Signature, TokenInput
from models.weights import Weights

LARGEST_BUCKET = 64
"""Batches are filled up to a power of two, each compiled once; larger ones run in pieces of this size."""
LEAST_BUCKET = 8
"""Networks with large maps run in smaller pieces, but no smaller ones than this."""
MAP_BYTES = 2 << 20
"""Of one map of a whole piece: several of them should fit into a cache."""
Shape = tuple[int, ...]


class Forward:
    """The compiled forward passes of one architecture, shared by all its weights."""

    def __init__(
        self, spec: Spec, signature: Signature, device: jax.Device, precision: ServingPrecision
    ) -> None:
        self._device, self.precision = device, precision
        with scope(device, precision):
            winograd = device.platform == "cpu" and precision == "float32"
            self.network = Network(spec, signature, precision, winograd=winograd)
        self._compiler = Compiler(device, convolves=self.network.convolves)
        self._compiled: dict[Shape, Callable[..., jax.Array]] = {}
        self._lock = Lock()
        self.largest_bucket = largest_bucket(self.network.map_bytes)
        self.warming = 0
        """How many threads compile ahead now."""

    def bucket(self, x: np.ndarray) -> int:
        """The size of the next batch where these samples are to be computed: the next power of two, but while that is
        still being compiled ahead, a size that is there."""
        rows, (_, *sample) = len(x), shape_of(x)
        exact = min(self.largest_bucket, 1 << (rows - 1).bit_length())
        if not self.warming or (exact, *sample) in self._compiled:
            return exact
        there = sorted(size for size, *shape in tuple(self._compiled) if shape == sample)
        return next((size for size in there if size >= rows), there[-1] if there else exact)

    def __call__(
        self, tensors: Tensors, x: np.ndarray, mean: jax.Array | None, inverse_std: jax.Array | None
    ) -> jax.Array:
        """Logits [B, K] of raw samples, perhaps still on their way; B is a bucket, and so is the width of texts."""
        arguments = (tensors, x, mean, inverse_std)
        compiled = self._compiled.get(shape_of(x)) or self._compile(arguments)
        return compiled(*arguments)

    def _compile(self, arguments: tuple[Any, ...]) -> Callable[..., jax.Array]:
        """The pass for samples of this shape; threads that need the same one wait for the first."""
        shape = shape_of(arguments[1])
        with self._lock, scope(self._device, self.precision):
            if shape not in self._compiled:
                self._compiled[shape] = self._compiler.compile(self._logits, *arguments)
            return self._compiled[shape]

    def _logits(self, tensors: Tensors, x: Any, mean: Any, inverse_std: Any) -> jax.Array:
        entered = normalised(x, mean, inverse_std)
        if jnp.issubdtype(entered.dtype, jnp.floating):
            entered = entered.astype(DTYPES[self.precision])
        return self.network.apply(tensors, entered, training=False)[0]


def largest_bucket(map_bytes: int) -> int:
    """A power of two, for a network whose largest map takes so much of an image."""
    rows = max(LEAST_BUCKET, min(LARGEST_BUCKET, MAP_BYTES // max(1, map_bytes)))
    return 1 << (rows.bit_length() - 1)


def shape_of(x: np.ndarray) -> Shape:
    """What is compiled for x serves everything of this shape: [B, ...] and the dtype."""
    return (*x.shape, x.dtype.num)


@lru_cache(maxsize=32)
def _forward(spec: Spec, signature: Signature, device: jax.Device, precision: ServingPrecision) -> Forward:
    return Forward(spec, signature, device, precision)


class JaxPredictor:
    """See `models.engine.Predictor`. The precision is not the one that the network was trained in."""

    def __init__(
        self, definition: Definition, weights: Weights, device: jax.Device, precision: ServingPrecision
    ) -> None:
        self.device = describe(device)
        self._input = definition.signature.input
        self._forward = _forward(definition.spec, definition.signature, device, precision)
        with scope(device, precision):
            self._tensors = self._forward.network.to_device(weights, device)
            self._normalisation = constants(definition.normalisation, jnp.float32, device)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """See `models.engine.Predictor.logits`."""
        if isinstance(self._input, TokenInput):
            x = widened(x, self._input)
        normalisation = self._normalisation
        if is_normalised(x, self._input):
            x, normalisation = x.transpose(0, 2, 3, 1), (None, None)
        logits, done = [], 0
        while done < len(x):
            size = self._forward.bucket(x[done:])
            piece = x[done : done + size]
            logits.append((len(piece), self._forward(self._tensors, filled(piece, size), *normalisation)))
            done += len(piece)
        read = [np.asarray(some)[:rows] for rows, some in logits]
        return read[0] if len(read) == 1 else np.concatenate(read)

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        """See `models.engine.Predictor.warm_up`. The largest batch is compiled first: with it all others run too."""
        largest = min(self._forward.largest_bucket, 1 << (rows - 1).bit_length())
        self._forward.warming += 1
        try:
            for size in (largest, *(1 << power for power in range(largest.bit_length() - 1))):
                x = np.repeat(example[None], size, axis=0)
                self._forward(self._tensors, x, *self._normalisation)
        finally:
            self._forward.warming -= 1
