"""The spare trainer: waiting before it is needed, replaced when it dies, gone at the end."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from workers import messages
from workers.spares import Spares


@pytest.fixture
def spares(toy_trainer):
    made = Spares(*toy_trainer)
    made.start()
    yield made
    made.stop()


def is_dead(pid):
    """Dead, though perhaps not reaped yet."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def is_ready(trainer, eventually):
    reports = []
    return eventually(lambda: reports.extend(trainer.reports.read()) or reports) and isinstance(
        messages.read_report(reports[0]), messages.Ready
    )


def test_the_spare_is_handed_over_and_the_next_one_waits_until_it_is_asked_for(spares, eventually):
    waiting = spares.pid
    trainer = spares.take()
    assert trainer.pid == waiting
    assert is_ready(trainer, eventually)
    time.sleep(0.6)
    assert spares.pid is None
    spares.refill()
    assert spares.pid not in (None, waiting)
    trainer.close()


def test_without_a_spare_a_trainer_is_started(toy_trainer, eventually):
    spares = Spares(*toy_trainer, keep=False)
    spares.start()
    assert spares.pid is None
    trainer = spares.take()
    assert is_ready(trainer, eventually)
    trainer.close()
    spares.stop()


def test_a_spare_that_dies_is_replaced(spares, eventually):
    first = spares.pid
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: spares.pid not in (None, first))


def test_a_spare_that_died_a_moment_ago_is_not_handed_over(spares, eventually):
    killed = spares.pid
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: spares.pid != killed or is_dead(killed))
    trainer = spares.take()
    assert is_ready(trainer, eventually)
    trainer.close()


def test_a_spare_that_cannot_start_is_tried_ever_more_rarely(tmp_path):
    starts = tmp_path / "starts"
    spares = Spares([sys.executable, "-S", "-c", f"open({str(starts)!r}, 'a').write('.')"], {})
    spares.start()
    time.sleep(5)
    spares.stop()
    assert 2 <= len(starts.read_text()) <= 4


def test_stopping_ends_the_spare_and_keeps_none(spares):
    waiting = spares.pid
    spares.stop()
    assert not Path(f"/proc/{waiting}").exists()
    spares.refill()
    assert spares.pid is None


def test_a_trainer_that_was_closed_meanwhile_may_still_be_told_to_stop(toy_trainer):
    trainer = Spares(*toy_trainer, keep=False).take()
    trainer.close()
    trainer.tell(messages.Stop(reason="shutdown"))


def test_a_spare_that_cannot_be_started_is_done_without_and_leaves_no_pipes_open(toy_trainer):
    command, environment = toy_trainer
    too_large = {**environment, "LARGE": "x" * 200_000}
    spares = Spares(command, too_large)
    before = len(list(Path("/proc/self/fd").iterdir()))
    spares.start()
    with pytest.raises(OSError, match="too long"):
        spares.take()
    assert spares.pid is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    del too_large["LARGE"]
    spares.refill()
    assert spares.pid is not None
    spares.stop()
