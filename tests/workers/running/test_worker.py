"""Worker processes: they survive their broker, give their jobs back, and may be killed at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree

from workers import broker, fleet, jobs, registry


def test_a_worker_imports_no_framework():
    program = "import sys, workers.service; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "jax", "flax", "optax"} & set(found.stdout.split())
    assert "celery" in found.stdout.split()


def test_a_worker_runs_what_is_submitted_and_shows_itself(fleet_bench, eventually):
    with fleet_bench.worker():
        first, second = fleet_bench.submit(slow_s=0.02), fleet_bench.submit()
        assert eventually(lambda: fleet_bench.status(first) == "running")
        assert eventually(lambda: first in fleet.page(fleet_bench.db).data[0].jobs)
        assert eventually(lambda: fleet_bench.status(second) == "succeeded")
        (worker,) = fleet.page(fleet_bench.db).data
        assert (worker.framework, worker.slots, worker.device) == ("torch", 1, "cpu (numpy)")
        assert eventually(lambda: fleet_bench.status(first) == "succeeded")


def test_a_worker_with_two_slots_runs_two_jobs_at_a_time(fleet_bench, eventually):
    with fleet_bench.worker(slots=2):
        running = [fleet_bench.submit(epochs=1000, slow_s=0.02) for _ in range(3)]
        assert eventually(lambda: [fleet_bench.status(job) for job in running[:2]] == ["running"] * 2)
        assert fleet_bench.status(running[2]) == "queued"
        jobs.cancel(fleet_bench.db, running[0])
        assert eventually(lambda: fleet_bench.status(running[2]) == "running")


def test_a_job_submitted_while_the_broker_is_down_runs_once_it_is_back(fleet_bench, valkey, eventually):
    with fleet_bench.worker():
        assert fleet_bench.worker_is_there()
        valkey.stop()
        job = fleet_bench.submit()
        time.sleep(1.5)
        assert fleet_bench.status(job) == "queued"
        valkey.start()
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")
    assert fleet_bench.outcomes(job) == ["succeeded"]


def test_a_job_submitted_while_the_broker_is_frozen_runs_once_it_thaws(fleet_bench, valkey, eventually):
    with fleet_bench.worker():
        assert fleet_bench.worker_is_there()
        os.kill(valkey.pid, signal.SIGSTOP)
        job = fleet_bench.submit()
        time.sleep(1.0)
        os.kill(valkey.pid, signal.SIGCONT)
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")
    assert fleet_bench.outcomes(job) == ["succeeded"]


def test_a_broker_that_restarts_during_a_job_disturbs_neither_it_nor_the_next(
    fleet_bench, valkey, eventually
):
    with fleet_bench.worker():
        first = fleet_bench.submit(epochs=6, slow_s=0.02)
        assert fleet_bench.reaches(first, 5)
        valkey.stop()
        valkey.start()
        second = fleet_bench.submit()
        assert eventually(lambda: fleet_bench.status(second) == "succeeded")
    assert fleet_bench.outcomes(first) == ["succeeded"]
    assert fleet_bench.outcomes(second) == ["succeeded"]


def test_a_job_cancelled_with_no_worker_up_never_runs(fleet_bench, eventually):
    job, next_job = fleet_bench.submit(), fleet_bench.submit()
    jobs.cancel(fleet_bench.db, job)
    with fleet_bench.worker():
        assert eventually(lambda: fleet_bench.status(next_job) == "succeeded")
    assert fleet_bench.status(job) == "cancelled"
    assert fleet_bench.outcomes(job) == []


def test_the_job_of_a_killed_worker_is_finished_by_another_from_its_checkpoint(fleet_bench, eventually):
    undisturbed = fleet_bench.job(epochs=6)
    with fleet_bench.supervisor() as supervisor:
        supervisor.run(undisturbed)
    with fleet_bench.worker() as lost:
        job = fleet_bench.submit(epochs=6, slow_s=0.03)
        assert fleet_bench.reaches(job, 60)
        os.kill(lost.pid, signal.SIGKILL)
        noticed_after_s = fleet_bench.settings.lease_s + fleet_bench.settings.reconcile_every_s
        assert eventually(lambda: fleet_bench.outcomes(job) == ["lost"], noticed_after_s + 2)
        with fleet_bench.worker():
            assert eventually(lambda: fleet_bench.status(job) == "succeeded")
    assert fleet_bench.outcomes(job) == ["lost", "succeeded"]
    assert fleet_bench.trained_steps(job).count(1) == 1
    assert fleet_bench.weights(job) == fleet_bench.weights(undisturbed)


def test_a_frozen_worker_that_comes_back_is_refused_and_one_model_is_registered(
    fleet_bench, eventually, children
):
    with fleet_bench.worker(warm_spare=False) as zombie:
        job = fleet_bench.submit(epochs=3, slow_s=0.03, slow_again_s=0.12)
        assert fleet_bench.reaches(job, 10)
        (trainer,) = children(zombie.pid)
        fleet_bench.freeze(zombie.pid)
        # Its trainer went on and finished; nobody has read the result.
        assert eventually(lambda: fleet_bench.is_dead(trainer))
        rmtree(fleet_bench.settings.checkpoints_dir)  # else the next attempt would be over in a moment
        with fleet_bench.worker():
            assert eventually(lambda: fleet_bench.get(job).attempt == 2)
            again = fleet_bench.get(job).worker
            os.kill(zombie.pid, signal.SIGCONT)
            assert eventually(lambda: zombie_has_nothing(fleet_bench, zombie.pid))
            assert eventually(lambda: fleet_bench.status(job) == "succeeded", 60)
    assert fleet_bench.outcomes(job) == ["lost", "succeeded"]
    assert fleet_bench.get(job).worker == again
    assert [version.job_id for version in registry.get(fleet_bench.db, "digits-linear").versions] == [job]


def zombie_has_nothing(bench, pid):
    return [worker.jobs for worker in fleet.page(bench.db).data if worker.pid == pid] == [()]


def test_sigterm_ends_a_worker_within_its_grace_and_loses_no_step(fleet_bench, eventually):
    undisturbed = fleet_bench.job(epochs=6)
    with fleet_bench.supervisor() as supervisor:
        supervisor.run(undisturbed)
    with fleet_bench.worker() as first:
        job = fleet_bench.submit(epochs=6, slow_s=0.02)
        assert fleet_bench.reaches(job, 50)
        first.terminate()
        assert first.wait(fleet_bench.settings.grace_s) == 0
    assert fleet_bench.status(job) == "queued"
    with fleet_bench.worker():
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")
    assert fleet_bench.outcomes(job) == ["released", "succeeded"]
    assert fleet_bench.trained_steps(job).count(51) == 1
    assert fleet_bench.weights(job) == fleet_bench.weights(undisturbed)


def test_a_second_sigterm_does_not_wait_for_the_trainer(fleet_bench):
    with fleet_bench.worker() as worker:
        job = fleet_bench.submit(epochs=1000, deaf_at=5, slow_s=0.02)
        assert fleet_bench.reaches(job, 2)
        worker.terminate()
        time.sleep(0.3)
        worker.terminate()
        assert worker.wait(5) == 0
    assert fleet_bench.status(job) == "queued"


def test_a_worker_leaves_no_process_and_leaves_the_fleet(fleet_bench, eventually, children):
    with fleet_bench.worker() as worker:
        assert fleet_bench.worker_is_there()
        assert eventually(lambda: children(worker.pid))
        spare = children(worker.pid)
        worker.terminate()
        assert worker.wait(10) == 0
    assert not [pid for pid in spare if Path(f"/proc/{pid}").exists()]
    assert not fleet.page(fleet_bench.db).data


def test_a_killed_worker_takes_its_trainers_with_it(fleet_bench, eventually, children):
    with fleet_bench.worker() as worker:
        job = fleet_bench.submit(epochs=1000, slow_s=0.02)
        assert fleet_bench.reaches(job, 5)
        trainers = children(worker.pid)
        assert trainers
        worker.kill()
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers))


def test_a_worker_started_without_a_broker_waits_for_one(fleet_bench, valkey, eventually):
    valkey.stop()
    with fleet_bench.worker():
        job = fleet_bench.submit()
        assert fleet_bench.worker_is_there()
        time.sleep(1.0)
        valkey.start()
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")


def test_a_worker_without_a_broker_obeys_sigterm(fleet_bench, valkey):
    valkey.stop()
    with fleet_bench.worker() as worker:
        assert fleet_bench.worker_is_there()
        time.sleep(0.5)
        worker.terminate()
        assert worker.wait(8) == 0


def test_messages_of_jobs_that_are_done_are_harmless(fleet_bench, eventually):
    with fleet_bench.worker():
        job = fleet_bench.submit()
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")
        for _ in range(20):
            assert broker.publish(fleet_bench.settings, "torch", job)
        assert eventually(lambda: broker.backlog(fleet_bench.settings, "torch") == 0)
    assert fleet_bench.outcomes(job) == ["succeeded"]
