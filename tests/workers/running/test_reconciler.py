"""The reconciler: what is lost is found again, and nothing is sent in heaps."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers import broker, dispatch, jobs
from workers.reconciler import Reconciler


@pytest.fixture
def bench(new_bench, tmp_path, valkey, eventually):
    made = new_bench(tmp_path, broker_url=valkey.url)
    assert eventually(lambda: broker.publish(made.settings, "jax", "first"))  # takes long on a busy machine
    yield made
    made.db.close()


@pytest.fixture
def reconciler(bench):
    return Reconciler(bench.db, bench.store, bench.settings)


def claim(bench, job_id, lease_s=0.2):
    return jobs.claim(bench.db, job_id, worker="wrk_lost", host="here", lease_s=lease_s)


def backlog(bench):
    return broker.backlog(bench.settings, "torch")


def test_a_job_whose_message_was_never_sent_is_sent(bench, reconciler):
    bench.job()
    reconciler.sweep()
    assert backlog(bench) == 1


def test_a_job_that_waits_its_turn_is_not_sent_again_and_again(bench, reconciler):
    for _ in range(3):
        bench.job()
    for _ in range(3):
        reconciler.sweep()
        time.sleep(bench.settings.redispatch_s)
    assert backlog(bench) == 3


def test_a_lost_message_is_sent_again_when_it_is_stale(bench, reconciler):
    job = bench.job()
    dispatch.mark_dispatched(bench.db, job)  # and the broker lost it
    reconciler.sweep()
    assert backlog(bench) == 0
    time.sleep(bench.settings.redispatch_s)
    reconciler.sweep()
    assert backlog(bench) == 1


def test_a_job_given_back_is_sent_at_once_however_long_the_queue_is(bench, reconciler):
    job, *others = (bench.job() for _ in range(6))
    held = claim(bench, job, lease_s=60)
    for other in others:
        broker.publish(bench.settings, "torch", other)
        dispatch.mark_dispatched(bench.db, other)
    jobs.release(bench.db, job, held.fence, reason="the worker was asked to stop")
    reconciler.sweep()
    assert backlog(bench) == 6
    assert job not in [stale for stale, _ in dispatch.stale_queued(bench.db, bench.settings.redispatch_s)]


def test_a_job_whose_lease_ran_out_is_queued_and_sent_in_one_sweep(bench, reconciler):
    job = bench.job()
    held = claim(bench, job)
    reconciler.sweep()
    assert bench.status(job) == "running"
    time.sleep(0.3)
    reconciler.sweep()
    assert bench.status(job) == "queued"
    assert bench.get(job).fence > held.fence
    assert backlog(bench) == 1


def test_a_job_whose_workers_keep_dying_fails_after_its_attempts(bench, reconciler):
    job = bench.job(max_attempts=2)
    for _ in range(2):
        assert claim(bench, job) is not None
        time.sleep(0.3)
        reconciler.sweep()
    assert (bench.status(job), bench.get(job).error_code) == ("failed", "worker_lost")


def test_a_sweep_without_a_broker_is_quick_and_the_next_one_makes_up_for_it(bench, reconciler, valkey):
    job = bench.job()
    valkey.stop()
    began = time.monotonic()
    reconciler.sweep()
    assert time.monotonic() - began < 2
    valkey.start()
    reconciler.sweep()
    assert backlog(bench) == 1
    assert bench.status(job) == "queued"


def test_several_reconcilers_at_once_give_a_lost_job_up_once(bench):
    lost = [bench.job() for _ in range(5)]
    fences = {job: claim(bench, job).fence for job in lost}
    time.sleep(0.3)
    together = threading.Barrier(4)

    def sweep():
        together.wait()
        Reconciler(bench.db, bench.store, bench.settings).sweep()

    with ThreadPoolExecutor(4) as pool:
        for sweeping in [pool.submit(sweep) for _ in range(4)]:
            sweeping.result()
    assert {job: bench.get(job).fence for job in lost} == {job: fence + 1 for job, fence in fences.items()}
    assert all(bench.outcomes(job) == ["lost"] for job in lost)


def test_its_thread_survives_a_database_that_does_not_answer(bench, reconciler, eventually):
    reconciler.start()
    with bench.locked_database():
        time.sleep(1.0)
    bench.job()
    assert eventually(lambda: backlog(bench) == 1)
    reconciler.stop()


def test_its_thread_survives_a_cache_that_cannot_be_cleaned(bench, eventually):
    settings = bench.settings.model_copy(update={"program_cache_bytes": 1})
    folder = settings.cache_dir / "jax" / "folder-cache"
    (folder / "inside").mkdir(parents=True)
    os.utime(folder, (0, 0))
    reconciler = Reconciler(bench.db, bench.store, settings)
    reconciler.start()
    bench.job()
    assert eventually(lambda: backlog(bench) == 1)
    reconciler.stop()


def test_cleaning_removes_scratch_folders_of_attempts_that_are_over_and_no_other(bench, reconciler):
    over, running = bench.job(), bench.job()
    dead, alive = claim(bench, over), claim(bench, running, lease_s=60)
    folders = [bench.settings.work_dir / f"{one.job.id}-{one.fence}" for one in (dead, alive)]
    for folder in folders:
        (folder / "inside").mkdir(parents=True)
    time.sleep(0.3)
    reconciler.sweep()
    reconciler.clean()
    assert [folder.exists() for folder in folders] == [False, True]


def test_cleaning_removes_uploads_that_a_killed_process_left(bench, reconciler):
    folder = bench.settings.uploads_dir
    folder.mkdir()
    for name in ("upload-abandoned", "upload-abandoned.safetensors", "upload-under-way"):
        (folder / name).write_bytes(b"half a file")
    for abandoned in folder.glob("*abandoned*"):
        os.utime(abandoned, (0, 0))
    reconciler.clean()
    assert [path.name for path in folder.iterdir()] == ["upload-under-way"]


def test_cleaning_makes_room_among_what_jax_has_compiled(bench, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    settings = bench.settings.model_copy(update={"program_cache_bytes": 1500})
    folder = settings.cache_dir / "jax"
    folder.mkdir(parents=True)
    for age, name in enumerate(("new-cache", "old-cache"), 1):
        (folder / name).write_bytes(bytes(1000))
        os.utime(folder / name, (1000 / age, 1000 / age))
    Reconciler(bench.db, bench.store, settings).clean()
    assert {path.name for path in folder.iterdir()} == {"new-cache"}
