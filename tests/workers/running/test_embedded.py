"""The one-machine stack: up quickly, gone without a trace, and its parts come back when they die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.errors import Conflict
from workers import broker
from workers.embedded import Stack
from workers.reconciler import Reconciler
from workers.settings import Settings


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def stack(bench, toy_worker):
    with Stack(bench.settings, toy_worker) as running:
        bench.settings = running.settings
        reconciler = Reconciler(bench.db, bench.store, bench.settings)
        reconciler.start()
        yield running
        reconciler.stop()


def test_it_runs_jobs_of_both_frameworks(bench, stack, eventually):
    jobs = [bench.submit(framework=framework) for framework in ("torch", "jax")]
    for job in jobs:
        assert eventually(lambda job=job: bench.status(job) == "succeeded", 40)


def test_it_starts_quickly_and_leaves_no_process(bench, toy_worker, children, eventually):
    began = time.monotonic()
    with Stack(bench.settings, toy_worker) as stack:
        assert time.monotonic() - began < 5
        bench.settings = stack.settings
        job = bench.submit(epochs=1000, slow_s=0.02)
        assert bench.reaches(job, 5)
        everything = [
            *stack.pids.values(),
            *(child for pid in stack.pids.values() for child in children(pid)),
        ]
        assert len(everything) >= 5
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert all(gone(pid) for pid in everything)
    assert bench.status(job) == "queued"  # given back


def test_a_worker_or_a_broker_that_dies_is_started_again(bench, stack, eventually):
    before = stack.pids
    os.kill(before["torch"], signal.SIGKILL)
    os.kill(before["broker"], signal.SIGKILL)
    assert eventually(
        lambda: len(stack.pids) == 3 and not set(stack.pids.values()) & {before["torch"], before["broker"]}
    )
    job = bench.job()
    assert eventually(lambda: broker.publish(bench.settings, "torch", job))
    assert eventually(lambda: bench.status(job) == "succeeded", 40)


def test_workers_are_looked_after_while_the_broker_cannot_be_started(bench, stack, eventually):
    before = stack.pids
    folder = bench.settings.data_dir / "broker"
    folder.rename(folder.with_name("away"))
    folder.write_text("in its way")
    os.kill(before["broker"], signal.SIGKILL)
    time.sleep(1)
    os.kill(before["torch"], signal.SIGKILL)
    assert eventually(lambda: stack.pids.get("torch") not in (None, before["torch"]))
    folder.unlink()
    folder.with_name("away").rename(folder)
    assert eventually(lambda: "broker" in stack.pids)


def test_a_worker_that_dies_at_once_is_started_ever_more_rarely(bench, tmp_path):
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('.')"
    with Stack(bench.settings, lambda framework: [sys.executable, "-S", "-c", program]):
        time.sleep(5)
    assert 2 <= len(starts.read_text()) <= 10


def test_two_stacks_do_not_share_a_data_folder(bench, stack, toy_worker):
    with pytest.raises(Conflict, match="data folder"):
        Stack(bench.settings, toy_worker).start()


def test_a_stack_whose_process_is_killed_takes_everything_with_it(bench, toy_worker, children, eventually):
    program = (
        "import sys, time\n"
        "from workers.embedded import Stack\n"
        "from workers.settings import Settings\n"
        f"stack = Stack(Settings(), lambda framework: {toy_worker('torch')[:-1]!r} + [framework])\n"
        "stack.start(); print(*stack.pids.values(), flush=True); time.sleep(100)"
    )
    environment = bench.environment() | {"TANDEM_BROKER_URL": ""}
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **environment}, stdout=subprocess.PIPE
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        time.sleep(1)
        everything = [*pids, *(child for pid in pids for child in children(pid))]
        parent.kill()
    assert eventually(lambda: all(gone(pid) for pid in everything))
    with Stack(bench.settings, toy_worker):  # and the folder is free again
        pass


def test_a_broker_that_the_settings_name_is_used_as_it_is(new_bench, tmp_path, valkey, toy_worker):
    bench = new_bench(tmp_path, broker_url=valkey.url)
    with Stack(bench.settings, toy_worker) as stack:
        assert stack.settings.broker_url == valkey.url
        assert "broker" not in stack.pids


def test_the_workers_share_the_cores(tmp_path):
    cores = len(os.sched_getaffinity(0))
    assert Stack(Settings(data_dir=tmp_path)).settings.threads == max(1, cores // 2)
    assert Stack(Settings(data_dir=tmp_path, slots=2)).settings.threads == max(1, cores // 4)
    assert Stack(Settings(data_dir=tmp_path, threads=7)).settings.threads == 7
