"""Attempts and what comes of them: real trainer processes, real signals, a real database."""

import time
from pathlib import Path
from shutil import rmtree

import pytest

from models.framework import FRAMEWORKS
from models.state import load_state
from workers import checkpoints, dispatch, job_queries, jobs, registry

SLOW = {"slow_s": 0.02}


def test_a_job_ends_as_a_registered_model(bench):
    job = bench.job(say="hello from the trainer")
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    done = bench.get(job)
    assert (done.status, done.model_name, done.model_version) == ("succeeded", "digits-linear", 1)
    assert done.stop_reason == "completed"
    assert done.metrics["test_accuracy"] > 0.85
    assert done.device == "cpu (numpy)"
    assert done.step == done.total_steps == 42
    assert {"queued_s", "setup_s", "compile_s", "train_s"} <= done.timing.keys()
    assert "hello from the trainer" in job_queries.logs(bench.db, job)
    assert [event.type for event in job_queries.events(bench.db, job)][-2:] == ["status", "done"]
    assert not list(bench.settings.work_dir.glob("job_*"))


def test_a_built_in_dataset_is_prepared_once_and_kept(new_bench, tmp_path):
    bench = new_bench(tmp_path)
    first, second = bench.job(), bench.job()
    with bench.supervisor() as supervisor:
        supervisor.run(first)
        supervisor.run(second)
    phases = {
        job: [event.data.get("phase") for event in job_queries.events(bench.db, job)]
        for job in (first, second)
    }
    assert "preparing digits" in phases[first]
    assert "preparing digits" not in phases[second]
    assert bench.get(first).dataset_sha256 == bench.get(second).dataset_sha256 is not None


def test_a_job_is_claimed_once(bench):
    job = bench.job()
    with bench.supervisor() as supervisor:
        supervisor.run(job)
        supervisor.run(job)
    assert bench.outcomes(job) == ["succeeded"]


def test_a_slot_that_lost_its_job_to_another_of_the_same_worker_does_not_disturb_it(bench):
    job = bench.job(epochs=4, slow_s=0.05, slow_again_s=0.05)
    with bench.supervisor() as supervisor, bench.running(supervisor, job) as lost:
        assert bench.reaches(job, 5)
        while dispatch.expire_lease(bench.db, job) is None:
            jobs.heartbeat(bench.db, job, fence=1, lease_s=0.001)
            time.sleep(0.01)
        with bench.running(supervisor, job):
            lost.join(10)
            assert supervisor.jobs == (job,)
    assert bench.outcomes(job) == ["lost", "succeeded"]


def test_a_killed_trainer_is_followed_by_an_attempt_that_goes_on_from_its_checkpoint(bench):
    undisturbed = bench.job(epochs=6)
    job = bench.job(epochs=6, kill_at=90, kill_attempts=1, **SLOW)
    with bench.supervisor() as supervisor:
        supervisor.run(undisturbed)
        supervisor.run(job)
        assert bench.status(job) == "queued"
        time.sleep(bench.settings.backoff_s + 0.05)
        supervisor.run(job)
    assert bench.status(job) == "succeeded"
    assert bench.outcomes(job) == ["failed", "succeeded"]
    attempt = job_queries.attempts(bench.db, job)[0]
    assert attempt.reason is not None
    assert "SIGKILL (perhaps out of memory)" in attempt.reason
    progress = bench.trained_steps(job)
    assert progress.count(1) == 1  # the second attempt did not begin at the beginning
    assert bench.weights(job) == bench.weights(undisturbed)


def test_a_poison_job_gets_exactly_its_attempts_and_the_next_job_runs(bench):
    poison, healthy = bench.job(kill_at=3, max_attempts=3), bench.job()
    with bench.supervisor() as supervisor:
        for _ in range(6):
            supervisor.run(poison)
            time.sleep(bench.settings.backoff_s * 4)
        supervisor.run(healthy)
    failed = bench.get(poison)
    assert (failed.status, failed.error_code) == ("failed", "trainer_died")
    assert "SIGKILL" in (failed.error_message or "")
    assert "batch_size of 32" in (failed.error_message or "")
    assert bench.outcomes(poison) == ["failed"] * 3
    assert bench.status(healthy) == "succeeded"


def test_a_diverging_job_fails_at_once_and_names_the_step(bench):
    job = bench.job(
        training={"optimizer": {"name": "sgd", "learning_rate": 1000.0}, "schedule": {"name": "constant"}}
    )
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    failed = bench.get(job)
    assert (failed.status, failed.error_code) == ("failed", "diverged")
    assert "step" in (failed.error_message or "")
    assert bench.outcomes(job) == ["failed"]


def test_max_seconds_ends_a_job_with_what_it_has(bench):
    job = bench.job(epochs=1000, training={"max_seconds": 0.8}, **SLOW)
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    done = bench.get(job)
    assert (done.status, done.stop_reason) == ("succeeded", "max_seconds")
    assert 0 < done.step < done.total_steps


def test_a_running_job_can_be_cancelled(bench):
    job = bench.job(epochs=1000, **SLOW)
    with bench.supervisor() as supervisor, bench.running(supervisor, job) as thread:
        assert bench.reaches(job, 5)
        jobs.cancel(bench.db, job)
        thread.join(10)
    assert bench.status(job) == "cancelled"
    assert bench.outcomes(job) == ["cancelled"]
    assert checkpoints.newest_first(bench.settings.checkpoints_dir, job)


def test_a_trainer_that_does_not_answer_is_killed_when_its_job_is_cancelled(bench):
    job = bench.job(epochs=1000, deaf_at=5, **SLOW)
    with bench.supervisor() as supervisor, bench.running(supervisor, job) as thread:
        assert bench.reaches(job, 2)
        jobs.cancel(bench.db, job)
        thread.join(15)
    assert bench.status(job) == "cancelled"


def test_a_drained_supervisor_gives_its_job_back_at_that_very_step_and_takes_no_other(bench):
    undisturbed, job, other = bench.job(epochs=5), bench.job(epochs=5, **SLOW), bench.job()
    with bench.supervisor() as first, bench.running(first, job) as thread:
        assert bench.reaches(job, 30)
        first.drain()
        thread.join(10)
        first.run(other)
    assert bench.status(other) == "queued"
    released = bench.get(job)
    assert (released.status, released.attempt) == ("queued", 0)
    newest = load_state(checkpoints.newest_first(bench.settings.checkpoints_dir, job)[0])
    assert newest.step >= 30
    with bench.supervisor() as second:
        second.run(job)
        second.run(undisturbed)
    assert bench.outcomes(job) == ["released", "succeeded"]
    steps = bench.trained_steps(job)
    assert steps == sorted(steps)
    assert bench.weights(job) == bench.weights(undisturbed)


def test_a_second_drain_does_not_wait_for_a_checkpoint(bench):
    job = bench.job(epochs=1000, deaf_at=5, **SLOW)
    with bench.supervisor() as supervisor, bench.running(supervisor, job) as thread:
        assert bench.reaches(job, 2)
        began = time.monotonic()
        supervisor.drain()
        supervisor.drain()
        thread.join(10)
        assert time.monotonic() - began < 3
    assert bench.status(job) == "queued"
    assert bench.outcomes(job) == ["released"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(bench):
    job = bench.job(epochs=6, kill_at=100, kill_attempts=1, **SLOW)
    with bench.supervisor() as supervisor:
        supervisor.run(job)
        newest, before, *_ = checkpoints.newest_first(bench.settings.checkpoints_dir, job)
        flip_a_bit(newest / "state.safetensors")
        time.sleep(bench.settings.backoff_s + 0.05)
        supervisor.run(job)
    assert bench.status(job) == "succeeded"
    assert "Skipping a checkpoint" in job_queries.logs(bench.db, job)
    steps = bench.trained_steps(job)
    assert steps.count(int(before.name)) == 1
    assert steps.count(int(before.name) + 1) == 2  # trained again, from there


def test_only_the_newest_checkpoints_are_kept(bench):
    job = bench.job(epochs=10, **SLOW)
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    kept = checkpoints.newest_first(bench.settings.checkpoints_dir, job)
    assert len(kept) == bench.settings.keep_checkpoints == 2
    assert [int(folder.name) for folder in kept] == [
        row.step for row in job_queries.checkpoints(bench.db, job)
    ]


def test_a_retried_job_goes_on_from_the_checkpoint_of_the_failed_one(bench):
    job = bench.job(epochs=6, max_attempts=1, kill_at=90, **SLOW)
    with bench.supervisor() as supervisor:
        supervisor.run(job)
        assert bench.status(job) == "failed"
        step = int(checkpoints.newest_first(bench.settings.checkpoints_dir, job)[0].name)
        again = jobs.retry(bench.db, job).id
        supervisor.run(again)
    steps = bench.trained_steps(again)
    assert steps[0] == step + 1


def test_a_job_can_start_from_a_registered_model(bench):
    first = bench.job()
    with bench.supervisor() as supervisor:
        supervisor.run(first)
        second = bench.job(init={"model": "digits-linear@1"}, epochs=1)
        supervisor.run(second)
    losses = [bench.first_loss(job) for job in (first, second)]
    assert losses[1] < losses[0] / 2


CONSTANT = {"schedule": {"name": "constant"}}


def test_a_continued_job_goes_on_and_does_not_end_with_the_best_weights_of_the_one_before(bench):
    first = bench.job(epochs=2, training={**CONSTANT, "early_stopping": {"metric": "validation_loss"}})
    whole = bench.job(epochs=6, training=CONSTANT)
    with bench.supervisor() as supervisor:
        supervisor.run(first)
        supervisor.run(whole)
        more = bench.job(epochs=6, training=CONSTANT, init={"job": first})
        supervisor.run(more)
    assert bench.trained_steps(more)[0] == bench.step(first) + 1
    assert bench.weights(more) == bench.weights(whole)
    assert bench.weights(more) != bench.weights(first)


def test_a_job_is_continued_from_its_checkpoint_though_its_model_is_deleted(bench):
    first = bench.job(epochs=2)
    with bench.supervisor() as supervisor:
        supervisor.run(first)
        registry.delete_model(bench.db, bench.store, "digits-linear")
        more = bench.job(epochs=4, init={"job": first})
        supervisor.run(more)
    assert bench.status(more) == "succeeded"
    assert bench.trained_steps(more)[0] == bench.step(first) + 1


def test_a_job_that_is_to_continue_does_not_begin_at_the_beginning_instead(bench):
    first = bench.job(epochs=2)
    with bench.supervisor() as supervisor:
        supervisor.run(first)
        registry.delete_model(bench.db, bench.store, "digits-linear")
        for checkpoint in checkpoints.newest_first(bench.settings.checkpoints_dir, first):
            flip_a_bit(checkpoint / "state.safetensors")
        damaged = bench.job(epochs=4, init={"job": first})
        supervisor.run(damaged)
        rmtree(bench.settings.checkpoints_dir)
        missing = bench.job(epochs=4, init={"job": first})
        supervisor.run(missing)
    assert [bench.get(job).error_code for job in (damaged, missing)] == ["corrupt_artifact", "not_found"]


def test_a_built_in_dataset_whose_file_is_damaged_or_gone_is_made_again(bench):
    stored = bench.store.path(bench.get(bench.job()).dataset_sha256)
    damaged, missing = bench.job(), bench.job()
    stored.chmod(0o644)
    flip_a_bit(stored)
    with bench.supervisor() as supervisor:
        supervisor.run(damaged)
        bench.store.verify(stored.name)
        stored.unlink()
        supervisor.run(missing)
    assert [bench.status(job) for job in (damaged, missing)] == ["succeeded", "succeeded"]


def test_checkpoints_that_were_never_completed_do_not_stay(bench):
    job = bench.job(epochs=6, kill_at=90, kill_attempts=1, **SLOW)
    root = bench.settings.checkpoints_dir / job
    with bench.supervisor() as supervisor:
        supervisor.run(job)
        torn, later = root / "1" / "77", root / "99" / "5"  # of this attempt, and of one that is under way
        for folder in (torn, later):
            folder.mkdir(parents=True)
            (folder / "state.safetensors").write_bytes(b"half a checkp")
        time.sleep(bench.settings.backoff_s + 0.05)
        supervisor.run(job)
    assert bench.status(job) == "succeeded"
    assert not torn.exists()
    assert later.exists()
    assert len(list(root.glob("*/*/manifest.json"))) == bench.settings.keep_checkpoints
    assert all(any(attempt.iterdir()) for attempt in root.iterdir())


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_device_that_is_not_there_is_named(new_bench, tmp_path, digits, framework):
    bench = new_bench(tmp_path, device="cuda")
    bench.keep(digits)
    job = bench.job(framework=framework)
    with bench.supervisor(framework=framework, spare=False) as supervisor:
        supervisor.run(job)
    failed = bench.get(job)
    assert (failed.status, failed.error_code, failed.attempt) == ("failed", "invalid_input", 1)
    assert "finds no CUDA GPU" in (failed.error_message or "")


def test_a_job_whose_model_is_gone_fails_and_says_so(bench):
    job = bench.job(init={"model": "nothing"})
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    failed = bench.get(job)
    assert (failed.status, failed.error_code) == ("failed", "not_found")


def test_a_trainer_that_cannot_start_is_charged_and_its_words_are_in_the_log(bench):
    job = bench.job(max_attempts=1)
    with bench.supervisor(["/bin/sh", "-c", "echo no such framework >&2; exit 7"], spare=False) as supervisor:
        supervisor.run(job)
    failed = bench.get(job)
    assert (failed.status, failed.error_code) == ("failed", "trainer_died")
    assert "exited with status 7" in (failed.error_message or "")
    assert "no such framework" in job_queries.logs(bench.db, job)


def test_the_trainer_is_gone_when_its_attempt_is_over(bench):
    job = bench.job()
    with bench.supervisor(spare=False) as supervisor:
        supervisor.run(job)
    assert not bench.trainers()


def test_a_supervisor_without_an_answering_database_ends_its_attempt_before_the_lease_does(bench):
    job = bench.job(epochs=1000, **SLOW)
    with bench.supervisor(spare=False) as supervisor, bench.running(supervisor, job) as thread:
        assert bench.reaches(job, 5)
        with bench.locked_database():
            began = time.monotonic()
            thread.join(10)
            assert not thread.is_alive()
            assert time.monotonic() - began < bench.settings.lease_s
            assert not bench.trainers()
    assert bench.status(job) == "running"  # until the reconciler notices


def test_a_short_outage_of_the_database_costs_nothing(bench):
    job = bench.job(epochs=3, **SLOW)
    with bench.supervisor() as supervisor, bench.running(supervisor, job):
        assert bench.reaches(job, 5)
        with bench.locked_database():
            time.sleep(0.5)
    assert bench.outcomes(job) == ["succeeded"]
    steps = bench.trained_steps(job)
    assert {*range(1, 64)} <= {*steps}


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
