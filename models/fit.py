"""The training loop of both frameworks: plain values in, reports out.

The loop hands segments of steps to the engine and reads each segment's losses only after the next one is on
its way, so the device never waits; nor does it wait for the disk, from which the samples of the segment after are
fetched meanwhile. Where segments end changes no number: an engine executes the same compiled
pieces wherever it is interrupted.
"""

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from time import monotonic
from typing import Literal

import numpy as np

from models.data.dataset import Dataset, Split
from models.data.scratch import read_ahead
from models.engine import Definition, Device, Engine, Pending, Samples, SplitName, Trainer
from models.errors import Diverged
from models.lengths import lengths
from models.metrics import Metrics, evaluate
from models.plan import Plan, crop_padding
from models.preprocessing import TablePreprocessing
from models.reports import Fitted, MetricPoint, Observer, Phase, Progress, Started, Stopped, StopReason
from models.schedules import learning_rates
from models.signature import ImageInput, Input, TokenInput
from models.speed import Speed
from models.state import Sums, TrainingState
from models.training import TrainingSpec

SEGMENT_S = 0.2
"""How long one segment should take: how soon a stop, a checkpoint or a bar on a screen can come."""
METRIC_POINTS = 500
"""About how many points of the training loss a run reports."""
EVALUATION_BATCH = 256


def fit(
    engine: Engine,
    definition: Definition,
    training: TrainingSpec,
    dataset: Dataset,
    state: TrainingState,
    observer: Observer,
    *,
    device: Device = "auto",
    clock: Callable[[], float] = monotonic,
) -> Fitted | Stopped:
    """Train from `state` to the end of the run, or until the observer says stop.

    `training` is resolved. Raises Diverged when a loss is not finite, OutOfMemory when the device is full.
    """
    return _Run(engine, definition, training, dataset, state, observer, device, clock).complete()


def steps_per_epoch(training: TrainingSpec, rows: int) -> int:
    assert training.batch_size is not None
    return max(1, rows // training.batch_size)


def total_steps(training: TrainingSpec, rows: int) -> int:
    """Optimizer steps of the whole run: the smaller of `epochs` and `max_steps`."""
    by_epochs = None if training.epochs is None else training.epochs * steps_per_epoch(training, rows)
    return min(steps for steps in (by_epochs, training.max_steps) if steps is not None)


def samples(dataset: Dataset) -> dict[SplitName, Samples]:
    """Every split in the model's units: class indices, or the standardised target of a regression."""

    mean, std = _target(dataset)

    def convert(split: Split) -> Samples:
        if dataset.description.classes is not None:
            return Samples(split.array, split.y.astype(np.int32))
        return Samples(split.array, ((split.y.astype(np.float64) - mean) / std).astype(np.float32))

    return {
        "train": convert(dataset.train),
        "validation": convert(dataset.validation),
        "test": convert(dataset.test),
    }


class _Run:
    def __init__(
        self,
        engine: Engine,
        definition: Definition,
        training: TrainingSpec,
        dataset: Dataset,
        state: TrainingState,
        observer: Observer,
        device: Device,
        clock: Callable[[], float],
    ) -> None:
        assert training.batch_size is not None
        assert training.optimizer is not None
        assert training.schedule is not None
        self.definition, self.training, self.observer, self.clock = definition, training, observer, clock
        self.signature = definition.signature
        self.splits = samples(dataset)
        self.target_std = _target(dataset)[1]
        rows = len(self.splits["train"].x)
        self.batch_size = training.batch_size
        self.per_epoch = steps_per_epoch(training, rows)
        self.total = total_steps(training, rows)
        x = self.splits["train"].x
        self.plan = _plan(training, self.signature.input, x, self.total, self.per_epoch)
        self.state = state
        self.trainer: Trainer = engine.trainer(
            definition,
            training,
            self.splits,
            state.weights,
            state.slots,
            state.step,
            device=device,
        )
        self.every = max(1, ceil(self.total / METRIC_POINTS))
        self.step = state.step  # handed to the device; state.step is what has come back
        self.read = state.step  # fetched from the disk, or on its way
        self.waiting: tuple[int, Pending] | None = None
        self.epoch_values: Metrics = {}
        self.speed = Speed(clock, self.batch_size, self.trainer.stride)
        self.attempt_start = clock()
        self.earlier_s = state.train_s

    def complete(self) -> Fitted | Stopped:
        self.observer.report(
            Started(
                self.trainer.device, self.step, self.total, ceil(self.total / self.per_epoch), self.per_epoch
            )
        )
        reason: StopReason = "early_stopping" if self._out_of_patience() else "completed"
        while self.step < self.total and reason == "completed":
            if (ended := self._segment()) is not None:
                if ended == "stopped":
                    return Stopped(self.state.step)
                reason = ended
        self._collect()
        return self._finish(reason)

    def _segment(self) -> Literal["stopped"] | StopReason | None:
        """Hand out one segment, read the one before, and see whether the run ends here."""
        count = self._next_count()
        self._read_ahead(self.step + 2 * count)
        pending = self.trainer.run(self.plan.segment(self.step, self.step + count))
        before, self.waiting = self.waiting, (count, pending)
        first = self.speed.first
        self.step += count
        if before is not None:
            self._absorb(*before)
        if first:
            self._collect(first=True)
        if self.step % self.per_epoch == 0 or self.step == self.total:
            self._collect()
            if self._end_epoch() and self.step < self.total:
                return "early_stopping"
        return self._obey()

    def _next_count(self) -> int:
        """Steps of the next segment: whole strides from the epoch's start, about SEGMENT_S seconds."""
        stride = self.trainer.stride
        left = min(self.per_epoch - self.step % self.per_epoch, self.total - self.step)
        return min(left, stride * self.speed.strides(SEGMENT_S))

    def _read_ahead(self, end: int) -> None:
        """Have the samples of all steps before `end` fetched from the disk, so that no step waits for its own."""
        end = min(end, self.total)
        while not self.trainer.resident and self.read < end:
            stop = min(end, (self.read // self.per_epoch + 1) * self.per_epoch)
            read_ahead(self.splits["train"].x, self.plan.indices(self.read, stop))
            self.read = stop

    def _collect(self, *, first: bool = False) -> None:
        """Wait for what is on the device."""
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            self._absorb(*waiting, first=first)

    def _absorb(self, count: int, pending: Pending, *, first: bool = False) -> None:
        results = pending.result()
        self.speed.done(count, self.trainer.compile_s)
        start = self.state.step
        _check_finite(results[:, 0], start)
        for offset in range(count):
            self._count_step(start + offset + 1, float(results[offset, 0]), float(results[offset, 1]))
        self.state.step = start + count
        self.state.train_s = self.earlier_s + self.clock() - self.attempt_start
        self.observer.report(
            Progress(
                self.state.step,
                self.state.step / self.per_epoch,
                self.speed.samples_per_s,
                self.trainer.compile_s,
                first,
            )
        )

    def _count_step(self, step: int, loss: float, hits: float) -> None:
        state = self.state
        state.interval_sums = state.interval_sums.plus(loss, hits)
        state.epoch_sums = state.epoch_sums.plus(loss, hits)
        if step % self.every == 0:
            means = self._means(state.interval_sums)
            self.observer.report(MetricPoint("train", step, step / self.per_epoch, means))
            state.interval_sums = Sums()
        if step % self.per_epoch == 0 or step == self.total:
            self.epoch_values = self._means(state.epoch_sums)
            state.epoch_sums = Sums()

    def _means(self, sums: Sums) -> Metrics:
        mean = sums.hits / (sums.steps * self.batch_size)
        if self.signature.is_regression:
            return {"train_loss": sums.loss / sums.steps, "train_mae": mean * self.target_std}
        return {"train_loss": sums.loss / sums.steps, "train_accuracy": mean}

    def _unfinished_epoch(self) -> Metrics:
        """Training means of an attempt that ended before its first epoch did."""
        return self._means(self.state.epoch_sums) if self.state.epoch_sums.steps else {}

    def _end_epoch(self) -> bool:
        """Evaluate if it is time, report, and say whether to stop early."""
        epoch = ceil(self.step / self.per_epoch)
        stop = False
        values = dict(self.epoch_values)
        if epoch % self.training.evaluate_every == 0 or self.step == self.total:
            validation = self._evaluate("validation")
            values |= validation
            stop = self._judge(validation)
        self.observer.report(MetricPoint("epoch", self.step, self.step / self.per_epoch, values))
        self.epoch_values = values
        self.speed.pause()
        return stop

    def _evaluate(self, split: SplitName) -> Metrics:
        metrics = evaluate(
            self.trainer.outputs(split, EVALUATION_BATCH),
            self.splits[split].y,
            self.signature,
            target_std=self.target_std,
        )
        if not np.isfinite(metrics["loss"]):
            raise _diverged(metrics["loss"], self.state.step)
        return {f"{split}_{name}": value for name, value in metrics.items()}

    def _judge(self, validation: Metrics) -> bool:
        """Keep the best weights so far; True when patience has run out."""
        stopping = self.training.early_stopping
        if stopping is None:
            return False
        value, state = validation[stopping.metric], self.state
        gain = 0.0 if state.best_value is None else value - state.best_value
        if not stopping.larger_is_better:
            gain = -gain
        if state.best_value is None or gain > stopping.minimum_change:
            state.best_value, state.best_step = value, self.step
            state.best_weights, state.evaluations_without_gain = self.trainer.weights(), 0
        else:
            state.evaluations_without_gain += 1
        return self._out_of_patience()

    def _out_of_patience(self) -> bool:
        stopping = self.training.early_stopping
        return stopping is not None and self.state.evaluations_without_gain >= stopping.patience

    def _obey(self) -> Literal["stopped", "max_seconds"] | None:
        directive = self.observer.directive()
        if self.step == self.total:
            return None
        limit = self.training.max_seconds
        if directive == "stop":
            self._collect()
            self._save()
            return "stopped"
        if limit is not None and self.earlier_s + self.clock() - self.attempt_start > limit:
            return "max_seconds"
        if directive == "checkpoint":
            self._collect()
            self._save()
            self.speed.pause()
        return None

    def _save(self) -> None:
        snapshot = replace(self.state, weights=self.trainer.weights(), slots=self.trainer.slots())
        self.observer.save(snapshot)

    def _finish(self, reason: StopReason) -> Fitted:
        # A finished job can be continued too; and one whose worker dies now need not train again.
        self._save()
        self.observer.report(Phase("evaluating"))
        metrics = dict(self.epoch_values) or self._unfinished_epoch()
        weights = self.trainer.weights()
        if self.training.early_stopping is not None and self.state.best_weights:
            weights = self.state.best_weights
            self.trainer.load_weights(weights)
        metrics |= self._evaluate("validation")
        metrics |= self._evaluate("test")
        return Fitted(
            weights,
            metrics,
            self.state.step,
            self.state.best_step,
            reason,
            self.state.train_s,
            self.trainer.compile_s,
            self.speed.samples_per_s,
        )


def _check_finite(losses: np.ndarray, start: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(losses))
    if wrong.size:
        raise _diverged(float(losses[wrong[0]]), start + int(wrong[0]) + 1)


def _diverged(loss: float, step: int) -> Diverged:
    return Diverged(
        f"The loss is {loss} at step {step}. Use a lower learning_rate, more warmup_steps or"
        " gradient_clip_norm, and look for extreme values in the dataset."
    )


def _target(dataset: Dataset) -> tuple[float, float]:
    """Mean and standard deviation of a regression's target; 0 and 1 without one."""
    preprocessing = dataset.preprocessing
    if not isinstance(preprocessing, TablePreprocessing) or preprocessing.target_std is None:
        return 0.0, 1.0
    return preprocessing.target_mean or 0.0, preprocessing.target_std


def _plan(training: TrainingSpec, taken: Input, x: np.ndarray, total: int, per_epoch: int) -> Plan:
    assert training.batch_size is not None
    assert training.optimizer is not None
    assert training.schedule is not None
    return Plan(
        seed=training.seed,
        rows=len(x),
        batch_size=training.batch_size,
        learning_rates=learning_rates(
            training.schedule,
            training.optimizer.learning_rate,
            total_steps=total,
            steps_per_epoch=per_epoch,
        ),
        augment=training.augment,
        crop_range=2 * crop_padding(taken.height) + 1 if isinstance(taken, ImageInput) else 0,
        lengths=lengths(x, taken.padding) if isinstance(taken, TokenInput) else None,
        longest=taken.length if isinstance(taken, TokenInput) else 0,
    )
