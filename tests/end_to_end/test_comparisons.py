"""The frameworks compared on the real stack: figures, agreement, the report; by client and command."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from app.client import Tandem

pytestmark = pytest.mark.timeout(300)
DIGITS = {
    "dataset": "digits",
    "model": {"architecture": "cnn", "width": 8, "stages": 2},
    "training": {"epochs": 4, "batch_size": 64},
    "name": "compared",
}
TABLE = {
    "framework": "torch",
    "dataset": "diabetes",
    "model": {"architecture": "mlp"},
    "training": {"epochs": 4},
}


@pytest.fixture(scope="module")
def compared(tandem_up):
    """A comparison of two seeds that has ended."""
    with Tandem(tandem_up) as tandem:
        begun = tandem.compare({**DIGITS, "seeds": [0, 1]})
        return tandem.wait_for_comparison(begun.id)


def test_each_framework_trains_each_seed_one_after_another(tandem, compared):
    assert compared.status == "succeeded", compared.error
    assert (compared.progress.jobs, compared.progress.total_jobs) == (8, 8)
    assert [(run.framework, run.seed) for run in compared.runs] == [
        ("torch", 0),
        ("jax", 0),
        ("jax", 1),
        ("torch", 1),
    ]
    jobs = [tandem.job(run.job) for run in compared.runs]
    for before, after in pairwise(jobs):
        assert before.finished_at <= after.created_at <= after.started_at
    assert [f"{job.result.model}@{job.result.version}" for job in jobs] == [
        run.model for run in compared.runs
    ]


def test_the_figures_are_those_of_the_jobs(tandem, compared):
    for name, figures in compared.frameworks.items():
        runs = [run for run in compared.runs if run.framework == name]
        scores = [tandem.job(run.job).metrics["test_accuracy"] for run in runs]
        assert figures["score"]["mean"] == pytest.approx(sum(scores) / 2)
        assert all(score > 0.5 for score in scores)
        assert figures["samples_per_s"]["mean"] > 0
        assert 20e6 < figures["peak_memory_bytes"]["mean"] < 8e9
        assert 0 < figures["time_to_first_step_s"]["mean"] <= figures["time_to_target_s"]["mean"]
    assert compared.frameworks["jax"]["compile_s"]["mean"] > 0


def test_both_frameworks_agree(compared):
    for found, seed in zip(compared.agreement, (0, 1), strict=True):
        assert (found["seed"], found["frameworks"]) == (seed, ["torch", "jax"])
        assert found["loss_difference"]["first"] < 1e-5
        assert found["loss_difference"]["largest"] < 0.1
        assert found["equal_predictions"] > 0.95
        assert found["logit_difference"] is not None


def test_predictions_are_measured_on_every_engine_with_the_same_weights(compared):
    assert compared.serving["model"] == "compared"
    engines = {one["name"]: one for one in compared.serving["engines"]}
    assert engines.keys() >= {"torch", "jax"}
    for one in engines.values():
        assert one["agrees"]
        assert one["latency_ms"]["1"] > 0
    assert any(sentence.startswith("Predictions are fastest from") for sentence in compared.conclusion)


def test_the_report_has_what_was_found(tandem, compared):
    plain = tandem.comparison_report(compared.id)
    page = tandem.comparison_report(compared.id, "html")
    for part in (*compared.conclusion, "## Predictions", "## Agreement", *(run.job for run in compared.runs)):
        assert part in plain
    assert page.count("<polyline") == 4
    assert page.startswith("<!doctype html>")


def test_the_command_says_what_suits_the_model(tandem_up, tmp_path):
    spec, report = tmp_path / "job.json", tmp_path / "report.html"
    spec.write_text(json.dumps(TABLE))
    done = _compare(tandem_up, str(spec), "--seed", "3", "--report", str(report))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cmp_")
    assert any(line.startswith("Test rmse: PyTorch ") for line in lines)
    assert "4 of 4 jobs have ended" in done.stderr
    assert lines[-1] == f"{report}: the report"
    assert "<h1>diabetes-mlp: PyTorch and JAX compared</h1>" in report.read_text()


def test_the_command_refuses_in_one_line(tandem_up, tmp_path):
    wrong = tmp_path / "wrong.json"
    for content, expected in (("[1]", "JSON object"), ("{", "not JSON"), ('{"dataset": "digits"}', "model")):
        wrong.write_text(content)
        done = _compare(tandem_up, str(wrong))
        assert done.returncode == 1
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def _compare(url, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return subprocess.run(
        [sys.executable, "-m", "app", "compare", *arguments],
        env={**environment, "TANDEM_URL": url},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
