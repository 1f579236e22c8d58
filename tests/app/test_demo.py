"""The demo keeps its promises, and says so when it does not."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.demo import Comparison, Served, held_out_digits, shortfalls
from app.replies import Job, JobDataset


@pytest.mark.timeout(300)
def test_the_demo_succeeds_and_cleans_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "demo", "--data", str(tmp_path / "data")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for expected in ("PyTorch: epoch", "JAX: epoch", "270 held-out images", "What to try next"):
        assert expected in result.stdout


@pytest.mark.timeout(300)
def test_the_demo_runs_against_a_server_that_is_there(tandem_up: str) -> None:
    command = [sys.executable, "-m", "app", "demo", "--url", tandem_up]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(stop: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout is not None
    next(line for line in demo.stdout if "running" in line)
    assert len(list(tmp_path.glob("tandem-demo-*"))) == 1
    demo.send_signal(stop)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "Aborted!" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.glob("tandem-demo-*")) == []


def test_held_out_images_are_the_test_split() -> None:
    held_out = held_out_digits()
    assert len(held_out.images) == len(held_out.labels) == 270
    assert all(image.startswith(b"\x89PNG") for image in held_out.images)


@pytest.mark.parametrize(
    ("accuracy", "difference", "complaint"),
    [
        (0.99, 1e-5, None),
        (0.96, 1e-5, "accuracy 0.9600"),
        (0.99, 2e-4, "logits differ"),
        (float("nan"), 0.0, "accuracy"),
    ],
)
def test_a_broken_promise_is_named(accuracy: float, difference: float, complaint: str | None) -> None:
    logits = np.zeros((4, 10), dtype=np.float32)
    torch = Served(accuracy, logits, 0.1)
    comparison = Comparison(
        _job(), {"torch": torch, "jax": replace(torch, logits=logits + np.float32(difference))}
    )
    found = shortfalls({"PyTorch": comparison})
    assert bool(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]


def _job() -> Job:
    return Job(
        id="job_1",
        name="digits-cnn",
        status="succeeded",
        framework="torch",
        spec={},
        dataset=JobDataset(name="digits"),
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
    )
