"""The training loop over real engines and the real digits."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from models import engine
from models.catalog import architectures
from models.data.builtin import BUILTIN
from models.engine import Definition
from models.errors import Diverged
from models.fit import fit, total_steps
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.reports import Fitted, MetricPoint, Progress, Started, Stopped
from models.state import TrainingState, load_state, save_state
from models.training import TrainingSpec, resolve

SPECS = {
    "mlp": architectures()["mlp"](hidden=(16,)),
    "cnn": architectures()["cnn"](width=4, stages=2),
    "linear": architectures()["linear"](),
}


@pytest.fixture(scope="module")
def datasets():
    return {name: BUILTIN[name].load(Path()) for name in ("digits", "diabetes")}


@dataclass
class Watcher:
    """Remembers what a run reports; asks it to stop, or to save, after certain steps."""

    stop_at: int | None = None
    save_at: tuple[int, ...] = ()
    folder: Path | None = None
    events: list = field(default_factory=list)
    saved: list = field(default_factory=list)
    step: int = 0

    def report(self, event):
        self.events.append(event)
        if isinstance(event, Progress):
            self.step = event.step

    def directive(self):
        if self.stop_at is not None and self.step >= self.stop_at:
            return "stop"
        return "checkpoint" if self.step in self.save_at else "continue"

    def save(self, state):
        self.saved.append(state.step)
        if self.folder:
            save_state(state, self.folder)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def curve(self):
        return {(point.kind, point.step): point.values for point in self.of(MetricPoint)}


def run(dataset, watcher, *, framework="torch", model="mlp", state=None, clock=None, **options):
    spec, signature = SPECS[model], dataset.description.signature
    training = resolve(
        spec, TrainingSpec(**{"epochs": 2, "batch_size": 64, **options}), signature, len(dataset.train)
    )
    return fit(
        engine.load(framework),
        Definition(spec, signature, dataset.preprocessing.normalisation),
        training,
        dataset,
        state or TrainingState(initial_weights(spec, signature, training.seed)),
        watcher,
        device="cpu",
        **({"clock": clock} if clock else {}),
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_learns_and_reports_every_epoch(datasets, framework):
    watcher = Watcher()
    fitted = run(
        datasets["digits"],
        watcher,
        framework=framework,
        epochs=8,
        optimizer={"name": "adam", "learning_rate": 0.01},
    )
    assert isinstance(fitted, Fitted)
    assert fitted.stop_reason == "completed"
    assert fitted.metrics["test_accuracy"] > 0.85
    assert {"train_loss", "train_accuracy", "validation_loss", "test_loss"} <= fitted.metrics.keys()
    epochs = [point for point in watcher.of(MetricPoint) if point.kind == "epoch"]
    assert [point.epoch for point in epochs] == list(range(1, 9))
    assert all("validation_accuracy" in point.values for point in epochs)
    assert watcher.of(Started)[0].total_steps == fitted.step == watcher.of(Progress)[-1].step
    assert [event.first for event in watcher.of(Progress)].count(True) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    datasets, tmp_path, framework, model
):
    options = {
        "framework": framework,
        "model": model,
        "augment": ("crop",),
        "epochs": 3,
        "optimizer": {"name": "adamw"},
    }
    whole, before, after = Watcher(), Watcher(stop_at=25, folder=tmp_path), Watcher()
    expected = run(datasets["digits"], whole, **options)
    stopped = run(datasets["digits"], before, **options)
    assert isinstance(stopped, Stopped)
    assert 25 <= stopped.step < expected.step
    found = run(datasets["digits"], after, state=load_state(tmp_path), **options)
    for name, array in expected.weights.items():
        assert np.array_equal(found.weights[name], array), name
    assert found.metrics == expected.metrics
    assert {**before.curve(), **after.curve()} == whole.curve()


def test_checkpoints_on_the_way_change_nothing(datasets):
    often = Watcher(save_at=tuple(range(1, 60)))
    first, second = run(datasets["digits"], Watcher()), run(datasets["digits"], often)
    assert often.saved
    assert all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(datasets, framework):
    watcher = Watcher()
    with pytest.raises(Diverged, match=r"at step (\d+)"):
        run(
            datasets["diabetes"],
            watcher,
            framework=framework,
            model="linear",
            epochs=50,
            optimizer={"name": "sgd", "learning_rate": 1000.0},
            schedule={"name": "constant"},
        )


def test_early_stopping_returns_the_best_weights(datasets):
    watcher = Watcher()
    fitted = run(
        datasets["diabetes"],
        watcher,
        epochs=200,
        optimizer={"name": "adam", "learning_rate": 0.05},
        early_stopping={"metric": "validation_rmse", "patience": 3},
    )
    assert fitted.stop_reason == "early_stopping"
    scores = {
        point.step: point.values["validation_rmse"]
        for point in watcher.of(MetricPoint)
        if point.kind == "epoch"
    }
    assert fitted.best_step == min(scores, key=scores.get)
    assert fitted.metrics["validation_rmse"] == pytest.approx(min(scores.values()), rel=1e-6)
    assert fitted.best_step < fitted.step


def test_early_stopping_goes_on_counting_after_a_resume(datasets, tmp_path):
    options = {
        "epochs": 60,
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        "early_stopping": {"metric": "validation_loss", "patience": 4},
    }
    expected = run(datasets["diabetes"], Watcher(), **options)
    run(datasets["diabetes"], Watcher(stop_at=expected.step - 8, folder=tmp_path), **options)
    found = run(datasets["diabetes"], Watcher(), state=load_state(tmp_path), **options)
    assert (found.step, found.best_step) == (expected.step, expected.best_step)
    assert all(np.array_equal(found.weights[name], expected.weights[name]) for name in found.weights)


def test_a_run_that_ran_out_of_patience_does_not_train_on_when_resumed(datasets, tmp_path):
    options = {
        "epochs": 60,
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        "early_stopping": {"metric": "validation_loss", "patience": 4},
    }
    ended = run(datasets["diabetes"], Watcher(folder=tmp_path), **options)
    found = run(datasets["diabetes"], Watcher(), state=load_state(tmp_path), **options)
    assert (found.step, found.stop_reason) == (ended.step, "early_stopping")
    assert all(np.array_equal(found.weights[name], ended.weights[name]) for name in found.weights)


def test_a_finished_run_can_go_on_with_more_epochs_and_other_metric_points(datasets, tmp_path):
    first, more = Watcher(folder=tmp_path), Watcher()
    run(datasets["digits"], first, epochs=4)
    fitted = run(datasets["digits"], more, state=load_state(tmp_path), epochs=60)
    assert fitted.step == 60 * 21
    points = [point for point in more.of(MetricPoint) if point.kind == "train"]
    before = [point.values["train_loss"] for point in first.of(MetricPoint) if point.kind == "train"][-10:]
    assert points[0].values["train_loss"] == pytest.approx(np.mean(before), rel=0.3)


def test_max_seconds_ends_the_run_with_what_it_has(datasets):
    ticks = iter(range(100_000))
    fitted = run(
        datasets["digits"], Watcher(), epochs=1000, max_seconds=50.0, clock=lambda: float(next(ticks))
    )
    assert fitted.stop_reason == "max_seconds"
    assert 0 < fitted.step < 1000 * 18
    assert fitted.metrics["train_loss"] > 0
    assert "test_accuracy" in fitted.metrics


def test_max_steps_may_end_in_mid_epoch_and_still_evaluates(datasets):
    watcher = Watcher()
    fitted = run(datasets["digits"], watcher, epochs=None, max_steps=25)
    assert fitted.step == 25
    assert watcher.curve()["epoch", 25].keys() >= {"train_loss", "validation_loss"}


def test_the_smaller_of_epochs_and_max_steps_counts():
    assert total_steps(TrainingSpec(epochs=3, batch_size=10), 105) == 30
    assert total_steps(TrainingSpec(epochs=3, max_steps=7, batch_size=10), 105) == 7
    assert total_steps(TrainingSpec(max_steps=99, batch_size=10), 105) == 99


def test_evaluation_can_be_made_rarer(datasets):
    watcher = Watcher()
    run(datasets["digits"], watcher, epochs=5, evaluate_every=2)
    evaluated = [
        point.epoch
        for point in watcher.of(MetricPoint)
        if point.kind == "epoch" and "validation_loss" in point.values
    ]
    assert evaluated == [2, 4, 5]


def test_the_regression_predicts_in_the_targets_units(datasets):
    fitted = run(datasets["diabetes"], Watcher(), model="linear", epochs=60)
    assert 0.3 < fitted.metrics["test_r2"] < 0.8
    assert 35 < fitted.metrics["test_rmse"] < 75
