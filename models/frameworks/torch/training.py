"""A network with its optimizer, in PyTorch.

Shape suffixes: S steps, B batch, K outputs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from models.engine import Definition, Samples, SplitName
from models.frameworks.torch import freezing, optimizers
from models.frameworks.torch.devices import describe, memory_for
from models.frameworks.torch.noise import Noise
from models.frameworks.torch.samples import (
    Augmentation,
    TrainingRows,
    augmentation_of,
    budget_bytes,
    entrance,
)
from models.frameworks.torch.tensors import arrays, load_into, view
from models.lengths import batches
from models.plan import Segment
from models.signature import Signature
from models.state import Slots
from models.training import Precision, TrainingSpec
from models.weights import Weights

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Steps:
    """Losses float64 [S] and scores float64 [S] of steps, still on the device."""

    pieces: list[Tensor]

    def result(self) -> np.ndarray:
        """Wait for them; float64 [S, 2]."""
        return torch.cat(self.pieces).cpu().numpy()


class TorchTrainer:
    """See `models.engine.Trainer`. Runs eagerly: nothing is compiled, any step may start a segment."""

    stride = 1
    compile_s = 0.0
    piece_bytes = 64 * 1024 * 1024
    """What a piece of a segment may add to the device's memory: gathered rows, crop indices, logits."""

    def __init__(
        self,
        definition: Definition,
        training: TrainingSpec,
        splits: Mapping[SplitName, Samples],
        network: nn.Module,
        noise: Noise,
        optimizer: Optimizer,
        device: torch.device,
    ) -> None:
        self.device = describe(device)
        self._device = device
        self._dtype = master_dtype(training.precision)
        self._autocasts = training.precision == "bfloat16"
        self._clip_norm = training.gradient_clip_norm
        self._network = network
        self._noise = noise
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = optimizer
        self._signature = definition.signature
        self._loss = loss_of(definition.signature, training.label_smoothing)
        self._enter = entrance(definition, self._dtype, device)
        self._splits = splits
        self._rows = TrainingRows(splits["train"], device, budget_bytes(device))
        self.resident = self._rows.resident and device.type != "cpu"
        self._targets = self._targets_of(splits["train"])

    def run(self, segment: Segment) -> Steps:
        """See `models.engine.Trainer.run`."""
        steps = self._steps_per_piece(segment.indices.shape[1])
        freezing.train(self._network)
        with memory_for(segment.indices.shape[1], self._device):
            return Steps(
                [self._piece(segment.part(start, start + steps)) for start in range(0, segment.steps, steps)]
            )

    def _steps_per_piece(self, batch_size: int) -> int:
        shape = self._signature.input.shape
        sample_bytes = prod(shape) * 4 + 16 * sum(shape[:2]) + 8 * self._signature.outputs
        return max(1, self.piece_bytes // (batch_size * sample_bytes))

    def _piece(self, segment: Segment) -> Tensor:
        """Losses and scores of the segment's steps, float64 [S, 2], on the device."""
        rows, places_SB = self._rows.gather(segment.indices)
        indices_SB = torch.from_numpy(segment.indices.astype(np.int64)).to(self._device)
        targets_SB = self._targets[indices_SB]
        augmentation = augmentation_of(segment, self._signature.input.shape, self._device)
        losses, logits = [], []
        for step, (places_B, targets_B) in enumerate(
            zip(places_SB.unbind(), targets_SB.unbind(), strict=True)
        ):
            x = self._input(_taken(rows, places_B, segment, step), augmentation, step)
            optimizers.schedule(self._optimizer, float(segment.learning_rates[step]))
            self._noise.at(int(segment.noise[step]))
            loss, logits_BK = self._step(x, targets_B)
            losses.append(loss)
            logits.append(logits_BK)
        scores_S = score_of(self._signature, torch.stack(logits), targets_SB)
        return torch.stack((torch.stack(losses).double(), scores_S), dim=1)

    def _input(self, raw: Tensor, augmentation: Augmentation | None, step: int) -> Tensor:
        return self._enter(raw if augmentation is None else augmentation.apply(raw, step))

    def _step(self, x: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """One update; the batch's loss and logits_BK before it."""
        logits_BK = self._forward(x)
        loss = self._loss(logits_BK, targets_B)
        for parameter in self._parameters:  # what zero_grad does, without its bookkeeping
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._optimizer.step()
        return loss.detach(), logits_BK.detach()

    def _forward(self, x: Tensor) -> Tensor:
        """Logits in the master dtype; the loss is never taken in bfloat16."""
        if not self._autocasts:
            logits_BK: Tensor = self._network(x)
            return logits_BK
        with torch.autocast(self._device.type, torch.bfloat16):
            logits_BK = self._network(x)
        return logits_BK.to(self._dtype)

    def outputs(self, split: SplitName, batch_size: int) -> Iterator[np.ndarray]:
        """See `models.engine.Trainer.outputs`."""
        for raw in batches(self._splits[split].x, batch_size, self._signature.input):
            self._network.eval()
            with memory_for(batch_size, self._device), torch.inference_mode():
                logits_BK = self._forward(self._enter(view(raw).to(self._device))).cpu().numpy()
            yield logits_BK

    def weights(self) -> Weights:
        return arrays(self._network.state_dict())

    def slots(self) -> Slots:
        return optimizers.slots_of(self._optimizer, self._network)

    def load_weights(self, weights: Weights) -> None:
        load_into(self._network, weights)

    def _targets_of(self, samples: Samples) -> Tensor:
        dtype = self._dtype if self._signature.is_regression else torch.int64
        return torch.tensor(samples.y).to(self._device, dtype)


def _taken(rows: Tensor, places_B: Tensor, segment: Segment, step: int) -> Tensor:
    """The raw samples of a step; tokens are cut to the step's width."""
    if segment.widths is not None:
        rows = rows[:, : segment.widths[step]]
    return rows.index_select(0, places_B)


def master_dtype(precision: Precision) -> torch.dtype:
    """What weights, statistics and optimizer slots are kept in."""
    return torch.float64 if precision == "float64" else torch.float32


def loss_of(signature: Signature, label_smoothing: float) -> Loss:
    """The objective, a mean over the batch: of logits_BK and targets_B."""
    if signature.is_regression:
        return lambda logits_B1, targets_B: F.mse_loss(logits_B1[:, 0], targets_B)
    return lambda logits_BK, targets_B: F.cross_entropy(logits_BK, targets_B, label_smoothing=label_smoothing)


def score_of(signature: Signature, logits_SBK: Tensor, targets_SB: Tensor) -> Tensor:
    """Correct predictions of every step (regression: sums of absolute errors), float64 [S]."""
    if signature.is_regression:
        return (logits_SBK[..., 0].double() - targets_SB).abs().sum(1)
    return (logits_SBK.argmax(-1) == targets_SB).sum(1).double()
