"""Whole datasets predicted on the real stack, from `POST /predictions` to the file, by client and command."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from pyarrow import parquet

from app.client import Tandem, TandemAPIError
from models.data.builtin import BUILTIN
from models.framework import FRAMEWORKS

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def trained(tandem_up):
    """A model of the digits, trained in each framework."""
    spec = {
        "dataset": "digits",
        "model": {"architecture": "cnn", "width": 8, "stages": 2},
        "training": {"epochs": 2},
    }
    with Tandem(tandem_up) as tandem:
        jobs = {
            framework: tandem.create_job({**spec, "framework": framework, "name": f"scored-{framework}"})
            for framework in FRAMEWORKS
        }
        return {framework: tandem.wait(job.id) for framework, job in jobs.items()}


def command(url, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return subprocess.Popen(
        # A shell that starts us in the background has us ignore SIGINT, and our children after us.
        ["env", "--default-signal=INT", sys.executable, "-m", "app", "score", *arguments],
        env={**environment, "TANDEM_URL": url, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("engine", FRAMEWORKS)
def test_a_split_is_predicted_as_predict_does_and_judged_as_the_job_did(
    tandem, trained, tmp_path, framework, engine
):
    job = trained[framework]
    asked = tandem.predict_dataset(
        job.id, "digits", engine=engine, returns=["labels", "logits"], metadata={"why": "test"}
    )
    events = list(tandem.follow_prediction(asked.id))
    assert events[-1].type == "done"
    *_, progress = (event for event in events if event.type == "progress")
    assert progress.data == {"rows": 270, "total_rows": 270}
    done = tandem.prediction(asked.id)
    assert (done.status, done.engine, done.metadata) == ("succeeded", engine, {"why": "test"})
    assert (done.progress.rows, done.result.rows) == (270, 270)
    assert done.metrics["accuracy"] == pytest.approx(job.metrics["test_accuracy"], abs=0.01)
    assert done.metrics["loss"] == pytest.approx(job.metrics["test_loss"], rel=1e-3)
    file = tandem.download_prediction(done.id, tmp_path / "rows.parquet")
    assert file.stat().st_size == done.result.size_bytes
    assert list(tmp_path.iterdir()) == [file]
    rows = parquet.read_table(file).to_pylist()
    digits = BUILTIN["digits"].load(tmp_path)
    answers = tandem.predict(
        job.id, digits.test.x[:100].tolist(), engine=engine, returns=["labels", "logits"]
    )
    for row, answer in zip(rows, answers.predictions, strict=False):
        np.testing.assert_allclose(row["logits"], answer.logits, atol=1e-4)
        assert row["score"] == pytest.approx(answer.score, abs=1e-4)
        assert row["label"] == answer.label


def test_a_prediction_is_listed_retried_and_deleted(tandem, trained):
    kept = tandem.wait_for_prediction(tandem.predict_dataset("scored-torch", "digits", split="train").id)
    assert kept.status == "succeeded"
    assert kept.id in {one.id for one in tandem.predictions(model="scored-torch", status="succeeded")}
    with pytest.raises(TandemAPIError, match="succeeded"):
        tandem.retry_prediction(kept.id)
    with pytest.raises(TandemAPIError, match="no job"):
        tandem.job(kept.id)
    tandem.delete_prediction(kept.id)
    with pytest.raises(TandemAPIError, match="no prediction"):
        tandem.prediction(kept.id)


@contextmanager
def torchs_worker_busy(tandem):
    spec = {"dataset": "digits", "model": {"architecture": "cnn"}, "training": {"epochs": 999}}
    long = tandem.create_job({"framework": "torch", **spec})
    try:
        yield
    finally:
        tandem.cancel(long.id)


def test_a_queued_one_is_cancelled_and_a_retry_of_it_succeeds(tandem, trained):
    with torchs_worker_busy(tandem):
        waiting = tandem.predict_dataset("scored-torch", "digits")
        assert tandem.cancel_prediction(waiting.id).status == "cancelled"
    again = tandem.wait_for_prediction(tandem.retry_prediction(waiting.id).id)
    assert (again.status, again.resumed_from) == ("succeeded", waiting.id)


def test_the_command_writes_the_file_and_says_how_well_the_model_did(tandem_up, trained, tmp_path):
    file = tmp_path / "rows.jsonl"
    options = ("--split", "all", "--format", "jsonl", "--return", "probabilities", "--top-k", "2")
    done = command(tandem_up, "scored-jax", "digits", *options, "--return", "labels", "--output", str(file))
    told, problem = done.communicate(timeout=120)
    assert done.returncode == 0, problem
    assert told.startswith("pred_")
    assert f"{file}: 1797 rows by scored-jax@1" in told
    assert "accuracy 0." in told
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 1797
    assert rows[0].keys() == {
        "row", "split", "target", "label", "index", "score", "top", "probabilities",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_refuses_in_one_line(tandem_up, trained, tmp_path):
    refused = command(tandem_up, "scored-torch", "diabetes", "--output", str(tmp_path / "rows.parquet"))
    _, problem = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "tabular-regression" in problem
    assert len(problem.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_after_an_interrupt_the_prediction_goes_on(tandem, tandem_up, trained, tmp_path):
    with torchs_worker_busy(tandem):
        waiting = command(tandem_up, "scored-torch", "digits", "--output", str(tmp_path / "rows.parquet"))
        prediction = waiting.stdout.readline().strip()
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=30)
        assert waiting.returncode == 1
        assert tandem.prediction(prediction).status == "queued"
    assert tandem.wait_for_prediction(prediction).status == "succeeded"
    assert list(tmp_path.iterdir()) == []


def test_a_result_can_be_fetched_in_ranges(tandem, tandem_up, trained, tmp_path):
    done = tandem.wait_for_prediction(tandem.predict_dataset("scored-torch", "digits").id)
    whole = tandem.download_prediction(done.id, tmp_path / "whole").read_bytes()
    url = f"{tandem_up}{done.result.url}"
    half = len(whole) // 2
    parts = [httpx.get(url, headers={"Range": f"bytes={place}"}) for place in (f"0-{half - 1}", f"{half}-")]
    assert [part.status_code for part in parts] == [206, 206]
    assert b"".join(part.content for part in parts) == whole
