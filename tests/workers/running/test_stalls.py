"""Trainers that live and do nothing: ended, with where they stood in the log, and tried again."""

import os
import signal
import threading
import time

import pytest

from models.file_locks import alone
from workers import job_queries


@pytest.fixture
def bench(new_bench, tmp_path, digits):
    made = new_bench(tmp_path, beat_s=5.0, lease_s=60.0, idle_trainer_s=2.0)
    made.keep(digits)
    yield made
    made.db.close()


def test_a_job_that_stands_still_each_time_gets_its_attempts_and_fails(bench):
    job = bench.job(epochs=1000, deaf_at=5, max_attempts=2)
    with bench.supervisor() as supervisor:
        supervisor.run(job)
        assert bench.status(job) == "queued"
        time.sleep(bench.settings.backoff_s + 0.1)
        supervisor.run(job)
    failed = bench.get(job)
    assert (failed.status, failed.error_code) == ("failed", "trainer_stalled")
    assert "did nothing for 2 s" in failed.error_message
    assert bench.outcomes(job) == ["failed", "failed"]


def test_a_trainer_that_never_gets_ready_is_ended(bench):
    job = bench.job(max_attempts=1)
    with bench.supervisor(["/bin/sh", "-c", "exec sleep 1000"], spare=False) as supervisor:
        supervisor.run(job)
    assert (bench.status(job), bench.get(job).error_code) == ("failed", "trainer_stalled")


def test_a_spare_that_was_stopped_is_ended_and_the_next_trainer_does_its_job(bench):
    job = bench.job()
    with bench.supervisor() as supervisor:
        (spare,) = bench.trainers()
        time.sleep(2.0)  # it is ready by now
        os.kill(spare, signal.SIGSTOP)
        supervisor.run(job)
        time.sleep(bench.settings.backoff_s + 0.1)
        supervisor.run(job)
    assert bench.outcomes(job) == ["failed", "succeeded"]


def test_a_trainer_that_says_nothing_while_it_waits_for_another_job_is_left_alone(new_bench, tmp_path):
    bench = new_bench(tmp_path, beat_s=5.0, lease_s=60.0, idle_trainer_s=1.0)
    job = bench.job()  # its dataset has to be prepared
    bench.settings.work_dir.mkdir(parents=True)
    with bench.supervisor() as supervisor:
        with alone(bench.settings.work_dir / "datasets.lock", print):
            runner = threading.Thread(target=supervisor.run, args=(job,))
            runner.start()
            time.sleep(5)
        runner.join(60)
    assert bench.outcomes(job) == ["succeeded"]
    bench.db.close()


def test_a_trainer_that_takes_its_time_but_goes_on_is_left_alone(bench):
    job = bench.job(epochs=1, slow_s=0.3)  # 23 steps; it sleeps nearly all of the time
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    assert bench.outcomes(job) == ["succeeded"]


@pytest.mark.timeout(400)
def test_a_stopped_trainer_says_where_it_stood_and_the_next_goes_on_from_its_checkpoint(bench):
    network = {"architecture": "cnn", "width": 4, "stages": 2}
    habits = {"batch_size": 16, "checkpoint_every_s": 0.1}
    undisturbed, job = (bench.job(model=network, epochs=20, training=habits) for _ in range(2))
    with bench.supervisor(framework="torch", spare=False) as supervisor:
        supervisor.run(undisturbed)
        with bench.running(supervisor, job):
            assert bench.saves_a_checkpoint(job)
            (trainer,) = bench.trainers()
            os.kill(trainer, signal.SIGSTOP)
        time.sleep(bench.settings.backoff_s + 0.1)
        supervisor.run(job)
    assert bench.outcomes(job) == ["failed", "succeeded"]
    (stalled, _) = job_queries.attempts(bench.db, job)
    assert "after step" in stalled.reason
    log = job_queries.logs(bench.db, job)
    assert "most recent call first" in log
    assert "fit.py" in log
    assert bench.weights(job) == bench.weights(undisturbed)
