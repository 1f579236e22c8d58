"""What a running attempt tells about itself, for `jobs.record`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models.signature import Signature

Kind = Literal["train", "epoch_train", "validation", "test"]


@dataclass(frozen=True)
class Progress:
    """`epoch` and `step` are done, out of `epochs` and `total_steps`."""

    epoch: int
    epochs: int | None
    step: int
    total_steps: int


@dataclass(frozen=True)
class RowProgress:
    """`rows` out of `total_rows` are scored."""

    rows: int
    total_rows: int


@dataclass(frozen=True)
class LogLines:
    """Lines of the trainer's output, each with its newline."""

    text: str


@dataclass(frozen=True)
class Metrics:
    """A point of each curve: `values` by short name, such as {"loss": 0.3, "accuracy": 0.9}."""

    step: int
    epoch: int
    kind: Kind
    values: Mapping[str, float]

    @property
    def columns(self) -> dict[str, float | None]:
        """The values by full name, such as train_loss; what is not a finite number becomes None (JSON has none)."""
        return finite({f"{self.kind}_{name}": value for name, value in self.values.items()})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is complete on disk; `folder` is relative to the settings' checkpoints_dir."""

    step: int
    epoch: int
    folder: str
    size_bytes: int


@dataclass(frozen=True)
class FinishedModel:
    """What a successful attempt made. Its weights file is in the artifact store already.

    `stop_reason` says why it ended before its last step, if it did.
    """

    sha256: str
    size_bytes: int
    parameters: int
    signature: Signature
    classes: tuple[str, ...] | None
    metrics: Mapping[str, float]
    timing: Mapping[str, float] = field(default_factory=dict)
    stop_reason: str | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class FinishedPrediction:
    """What a successful prediction made. Its file is in the artifact store already."""

    sha256: str
    size_bytes: int
    metrics: Mapping[str, float]
    timing: Mapping[str, float]


Report = LogLines | Metrics | Checkpoint


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
