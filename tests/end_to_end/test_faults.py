"""Killing what carries a job: it still succeeds, from its checkpoint, and exactly once."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)


def job_of(framework, steps):
    return {
        "framework": framework,
        "dataset": "digits",
        "model": {"architecture": "cnn", "width": 16},
        "training": {"max_steps": steps, "batch_size": 64},
        "name": f"survivor-{framework}",
    }


def after_checkpoint(tandem, job_id):
    """Wait for a checkpoint; its step."""
    for event in tandem.follow(job_id):
        if event.type == "checkpoint":
            return event.data["step"]
    raise AssertionError(f"{job_id} ended without a checkpoint: {tandem.job(job_id)}")


def worker_of(tandem, job_id):
    for _ in range(100):
        for worker in tandem.workers():
            if job_id in worker.jobs:
                return worker
        time.sleep(0.1)
    raise AssertionError(f"no worker says it has {job_id}")


def children(pid):
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def busiest(pids):
    """The one that has used the most processor time: the trainer, not the waiting spare."""

    def ticks(pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(pids, key=ticks)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_job_survives_its_worker_killed_in_mid_epoch(fragile, framework):
    job = fragile.create_job(job_of(framework, 800))
    step = after_checkpoint(fragile, job.id)
    worker = worker_of(fragile, job.id)
    os.kill(worker.pid, signal.SIGKILL)
    ended = fragile.wait(job.id)
    assert ended.status == "succeeded", ended
    assert ended.attempt == 2
    assert ended.progress.step == 800
    assert step > 0
    model = fragile.model(f"survivor-{framework}")
    assert len(model.versions) == 1
    curve = fragile.metrics(job.id)
    assert curve["step"] == sorted(set(curve["step"]))


def test_a_job_survives_its_trainer_killed(fragile):
    job = fragile.create_job({**job_of("torch", 600), "name": "survivor-trainer"})
    after_checkpoint(fragile, job.id)
    worker = worker_of(fragile, job.id)
    os.kill(busiest(children(worker.pid)), signal.SIGKILL)
    ended = fragile.wait(job.id)
    assert ended.status == "succeeded", ended
    assert ended.attempt == 2
    assert len(fragile.model("survivor-trainer").versions) == 1


def test_a_comparison_goes_on_after_its_worker_was_killed(fragile):
    spec = {name: value for name, value in job_of("torch", 800).items() if name != "framework"}
    begun = fragile.compare({**spec, "name": "compared", "frameworks": ["torch", "jax"]})
    job_id = begun.runs[0].job
    after_checkpoint(fragile, job_id)
    os.kill(worker_of(fragile, job_id).pid, signal.SIGKILL)
    ended = fragile.wait_for_comparison(begun.id)
    assert ended.status == "succeeded", ended.error
    assert fragile.job(job_id).attempt == 2
    assert [run.status for run in ended.runs] == ["succeeded", "succeeded"]
