"""Real trainers of both frameworks, killed and stopped in the middle: not one bit of the result changes."""

import os
import platform
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from models.framework import FRAMEWORKS
from tests.app.serving import registered
from workers import trainer_environment

NETWORK = {"architecture": "cnn", "width": 4, "stages": 2}
EPOCHS = {"torch": 20, "jax": 40}  # a few seconds each


def long(framework):
    return {
        "framework": framework,
        "model": NETWORK,
        "epochs": EPOCHS[framework],
        "training": {
            "batch_size": 16,
            "augment": ["crop"],
            "optimizer": {"name": "adamw"},
            "checkpoint_every_s": 0.1,
        },
    }


@pytest.fixture
def bench(new_bench, tmp_path, digits):
    """With a lease that a busy machine does not lose: nothing here is about leases."""
    made = new_bench(tmp_path, beat_s=5.0, lease_s=60.0)
    made.keep(digits)
    yield made
    made.db.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_job_killed_once_and_stopped_once_ends_like_one_that_was_left_alone(bench, framework):
    undisturbed, job = bench.job(**long(framework)), bench.job(**long(framework))
    with bench.supervisor(framework=framework, spare=False) as supervisor:
        supervisor.run(undisturbed)
        with bench.running(supervisor, job):
            assert bench.saves_a_checkpoint(job)
            (trainer,) = bench.trainers()
            os.kill(trainer, signal.SIGKILL)
        time.sleep(bench.settings.backoff_s + 0.1)
        with bench.running(supervisor, job):
            assert bench.reaches(job, bench.step(job) + 30)
            supervisor.drain()
    with bench.supervisor(framework=framework) as supervisor:
        supervisor.run(job)
    assert bench.outcomes(job) == ["failed", "released", "succeeded"]
    assert bench.weights(job) == bench.weights(undisturbed)
    assert bench.get(job).metrics == bench.get(undisturbed).metrics


@pytest.mark.timeout(400)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_prediction_killed_once_and_stopped_once_makes_the_same_file(bench, framework):
    large = {"architecture": "cnn", "width": 32, "stages": 2}
    model = registered(
        SimpleNamespace(database=bench.db, store=bench.store), model=large, preprocess={"size": [64, 64]}
    )
    asked = {"engine": framework, "format": "jsonl", "return": ["labels", "logits"]}
    undisturbed, prediction = (bench.prediction(model.job_id, **asked) for _ in range(2))
    with bench.supervisor(framework=framework, spare=False) as supervisor:
        supervisor.run(undisturbed)
        with bench.running(supervisor, prediction):
            assert bench.reaches(prediction, 512)
            (trainer,) = bench.trainers()
            os.kill(trainer, signal.SIGKILL)
        time.sleep(bench.settings.backoff_s + 0.1)
        with bench.running(supervisor, prediction):
            assert bench.reaches(prediction, bench.step(prediction) + 256)
            supervisor.drain()
    with bench.supervisor(framework=framework, spare=False) as supervisor:
        supervisor.run(prediction)
    assert bench.outcomes(prediction) == ["failed", "released", "succeeded"]
    assert bench.result(prediction).read_bytes() == bench.result(undisturbed).read_bytes()
    assert bench.get(prediction).metrics == bench.get(undisturbed).metrics


def test_jaxs_own_variable_says_where_compiled_programs_are(bench, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/compiled")
    assert trainer_environment.environment(bench.settings)["JAX_COMPILATION_CACHE_DIR"] == "/compiled"


def test_else_the_trainers_compilation_cache_is_in_the_data_folder(bench, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    job = bench.job(framework="jax", model=NETWORK, epochs=1)
    with bench.supervisor(framework="jax", spare=False) as supervisor:
        supervisor.run(job)
    assert bench.status(job) == "succeeded"
    assert any((bench.settings.cache_dir / "jax").iterdir())


def test_a_trainer_uses_no_more_threads_than_it_is_given(bench):
    settings = bench.settings.model_copy(update={"threads": 1})
    environment = trainer_environment.environment(settings)
    assert environment["OMP_NUM_THREADS"] == environment["NPROC"] == "1"
    assert trainer_environment.default_threads(1000) == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_a_trainers_memory_is_not_cleared_anew_for_every_step(bench):
    environment = os.environ | trainer_environment.environment(bench.settings)
    usual = {name: value for name, value in environment.items() if name not in trainer_environment.MEMORY}
    assert page_faults(environment) < 0.05 * page_faults(usual)


def page_faults(environment):
    """Of ten allocations of 64 MiB in a thread, but the first."""
    found = subprocess.run(
        [sys.executable, "-c", ALLOCATES], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return int(found.stdout)


ALLOCATES = """
import numpy as np, resource, threading
def fill():
    faults = []
    for _ in range(10):
        np.ones(2**23)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(faults[-1] - faults[0])
thread = threading.Thread(target=fill)
thread.start()
thread.join()
"""


def test_jax_leaves_a_gpu_alone_where_it_is_to_compute_on_the_cpu(bench):
    on_cpu = bench.settings.model_copy(update={"device": "cpu"})
    assert trainer_environment.environment(on_cpu)["JAX_PLATFORMS"] == "cpu"
    assert "JAX_PLATFORMS" not in trainer_environment.environment(bench.settings)
