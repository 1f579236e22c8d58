"""A network with its optimizer, in JAX.

Shape suffixes: S steps, B batch, K outputs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from models.engine import Definition, Samples, SplitName
from models.frameworks.jax.compilation import Compiler
from models.frameworks.jax.devices import describe, memory_for, scope
from models.frameworks.jax.images import normalised
from models.frameworks.jax.network import Network, Tensors
from models.frameworks.jax.samples import TrainingRows, filled
from models.frameworks.jax.stepping import Batch, Carry, Step
from models.lengths import batches
from models.plan import Segment
from models.signature import TokenInput
from models.state import Slots
from models.training import TrainingSpec
from models.weights import Weights

STRIDE = 32
"""Steps in one compiled loop, where a loop pays."""


@dataclass(frozen=True)
class Piece:
    """Losses and scores of a compiled piece, still on the device; the first `steps` of them count."""

    results: jax.Array
    steps: int


@dataclass(frozen=True)
class Steps:
    """Losses and scores of a segment's steps, still on the device."""

    pieces: list[Piece]
    batch_size: int
    device: jax.Device

    def result(self) -> np.ndarray:
        """Wait for them; float64 [S, 2]."""
        with memory_for(self.batch_size, self.device):
            arrays = [np.asarray(piece.results, np.float64)[: piece.steps] for piece in self.pieces]
        return np.concatenate(arrays)


class JaxTrainer:
    """See `models.engine.Trainer`."""

    def __init__(
        self,
        definition: Definition,
        training: TrainingSpec,
        splits: Mapping[SplitName, Samples],
        weights: Weights,
        slots: Slots,
        step: int,
        device: jax.Device,
        *,
        budget_bytes: float,
    ) -> None:
        assert training.batch_size is not None
        self.device = describe(device)
        self._device, self._precision = device, training.precision
        self._batch_size = training.batch_size
        self._splits = splits
        self._input = definition.signature.input
        with scope(device, training.precision):
            self._network = Network(
                definition.spec,
                definition.signature,
                training.precision,
                freezes_backbone=training.freeze == "backbone",
            )
            self._step = Step(self._network, definition, training)
            self._carry = self._start(weights, slots, step)
            self._frozen = self._tensors(weights, self._network.resting)
            self._rows = TrainingRows(splits["train"], definition, self._network.master, device, budget_bytes)
        self.resident = self._rows.resident
        self._compiler = Compiler(device, convolves=self._network.convolves)
        self.stride = self._stride(device)
        self._train: dict[int | None, Callable[..., tuple[Carry, jax.Array]]] = {}
        self._evaluate: dict[tuple[int, ...], Callable[..., jax.Array]] = {}

    @property
    def compile_s(self) -> float:
        return self._compiler.seconds

    def run(self, segment: Segment) -> Steps:
        """See `models.engine.Trainer.run`."""
        starts = range(0, segment.steps, self.stride)
        with scope(self._device, self._precision), memory_for(self._batch_size, self._device):
            pieces = [self._piece(segment.part(start, start + self.stride)) for start in starts]
        return Steps(pieces, self._batch_size, self._device)

    def outputs(self, split: SplitName, batch_size: int) -> Iterator[np.ndarray]:
        """See `models.engine.Trainer.outputs`. One batch is always ahead of the one that is read."""
        x = self._splits[split].x
        size = min(batch_size, len(x))
        waiting: tuple[jax.Array, int] | None = None
        for batch in batches(x, size, self._input):
            ahead = self._logits(batch, size), len(batch)
            if waiting is not None:
                yield self._read(*waiting)
            waiting = ahead
        if waiting is not None:
            yield self._read(*waiting)

    def weights(self) -> Weights:
        return self._network.to_canonical(self._all())

    def slots(self) -> Slots:
        return {slot: self._network.to_canonical(tensors) for slot, tensors in self._carry.slots.items()}

    def load_weights(self, weights: Weights) -> None:
        with scope(self._device, self._precision):
            self._frozen = self._tensors(weights, self._network.resting)
            self._carry = self._carry._replace(
                parameters=self._tensors(weights, self._network.learning),
                statistics=self._tensors(weights, self._network.statistics),
            )

    def _piece(self, segment: Segment) -> Piece:
        """Hand up to `stride` steps to the device."""
        rates = segment.learning_rates.astype(self._network.master)
        batch = Batch(segment.indices, rates, segment.noise, segment.flips, segment.offsets)
        if segment.steps < self.stride:
            batch = jax.tree.map(self._filled, batch)
        rows, batch = self._rows.gather(batch)
        arguments = (self._carry, self._frozen, rows, batch, np.int32(segment.steps))
        width = None if segment.widths is None else int(segment.widths[0])
        if width not in self._train:
            self._train[width] = self._compiler.compile(self._compilable(width), *arguments, donate=True)
        self._carry, results = self._train[width](*arguments)
        return Piece(results, segment.steps)

    def _compilable(self, width: int | None) -> Callable[..., tuple[Carry, jax.Array]]:
        return self._step.several if self.stride > 1 else partial(self._step.single, width=width)

    def _stride(self, device: jax.Device) -> int:
        """One step where each may have another width; and where a loop costs more than it saves: inside of one a CPU
        takes 30 times as long for a convolution."""
        if isinstance(self._input, TokenInput) or (device.platform == "cpu" and self._network.convolves):
            return 1
        return STRIDE

    def _filled(self, array_S: np.ndarray) -> np.ndarray:
        """A short piece in the shape of a full one; what is added is never looked at."""
        missing = self.stride - len(array_S)
        return np.concatenate((array_S, np.zeros((missing, *array_S.shape[1:]), array_S.dtype)))

    def _start(self, weights: Weights, slots: Slots, step: int) -> Carry:
        parameters = self._tensors(weights, self._network.learning)
        return Carry(
            parameters,
            self._tensors(weights, self._network.statistics),
            {name: self._slot(slots.get(name, {}), weights) for name in self._step.optimizer.slots},
            jax.device_put(np.int32(step if slots else 0), self._device),
        )

    def _slot(self, slot: Weights, weights: Weights) -> Tensors:
        """The optimizer's slot as it was; zeros where it has none: at the start, and for what was frozen until now."""
        names = self._network.learning
        return self._tensors(
            {name: slot[name] if name in slot else np.zeros_like(weights[name]) for name in names}, names
        )

    def _all(self) -> Tensors:
        return self._carry.parameters | self._frozen | self._carry.statistics

    def _tensors(self, arrays: Weights, names: tuple[str, ...]) -> Tensors:
        return self._network.to_device({name: arrays[name] for name in names}, self._device)

    def _logits(self, x: np.ndarray, size: int) -> jax.Array:
        """Logits of a batch, filled up to `size` rows, on their way."""
        x = filled(x, size)
        with scope(self._device, self._precision), memory_for(size, self._device):
            arguments = (self._all(), x, *self._rows.normalisation)
            if x.shape not in self._evaluate:
                self._evaluate[x.shape] = self._compiler.compile(self._forward, *arguments)
            return self._evaluate[x.shape](*arguments)

    def _forward(self, tensors: Tensors, x: Any, mean: Any, inverse_std: Any) -> jax.Array:
        return self._network.apply(tensors, normalised(x, mean, inverse_std), training=False)[0]

    def _read(self, logits: jax.Array, rows: int) -> np.ndarray:
        with memory_for(len(logits), self._device):
            return np.asarray(logits)[:rows]
