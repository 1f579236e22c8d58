"""What a training run tells whoever watches it."""

from dataclasses import dataclass
from typing import Literal, Protocol

from models.metrics import Metrics
from models.state import TrainingState
from models.weights import Weights

Directive = Literal["continue", "checkpoint", "stop"]
StopReason = Literal["completed", "early_stopping", "max_seconds"]


@dataclass(frozen=True)
class Started:
    """The network is on the device."""

    device: str
    step: int
    total_steps: int
    epochs: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Progress:
    """`step` optimizer steps are done; `first` marks the first report of an attempt."""

    step: int
    epoch: float
    samples_per_s: float | None
    compile_s: float
    first: bool = False


@dataclass(frozen=True)
class MetricPoint:
    """`kind` 'train': means since the last such point. 'epoch': means over the epoch, and validation."""

    kind: Literal["train", "epoch"]
    step: int
    epoch: float
    values: Metrics


@dataclass(frozen=True)
class Phase:
    text: str


@dataclass(frozen=True)
class Fitted:
    """A finished run. `metrics` has `train_`, `validation_` and `test_` values of the weights returned."""

    weights: Weights
    metrics: Metrics
    step: int
    best_step: int | None
    stop_reason: StopReason
    train_s: float
    compile_s: float
    samples_per_s: float | None


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop; the state was saved and goes on from `step`."""

    step: int


Report = Started | Progress | MetricPoint | Phase


class Observer(Protocol):
    """Who watches a run."""

    def report(self, event: Report) -> None: ...

    def directive(self) -> Directive:
        """Asked after every segment."""
        ...

    def save(self, state: TrainingState) -> None:
        """Keep a checkpoint."""
        ...
