"""Idle is who says nothing and computes nothing; everyone else is left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from workers.vigil import Vigil

PATIENCE_S = 1.0
SPIN = "while True: pass"


@contextmanager
def running(program: str) -> Iterator[int]:
    command = [sys.executable, "-c", f"print('here', flush=True)\n{program}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def noticed_after_s(vigil: Vigil, within_s: float, says: bool = False) -> float | None:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < within_s:
        if vigil.look(int(passed / 0.3) if says else 0):
            return passed
        time.sleep(0.02)
    return None


def test_one_that_sleeps_is_noticed_once_its_time_is_over() -> None:
    with running("import time; time.sleep(99)") as pid:
        began = time.monotonic()
        assert noticed_after_s(Vigil(pid, PATIENCE_S), 9) is not None
    assert time.monotonic() - began >= PATIENCE_S


def test_one_that_was_stopped_is_noticed() -> None:
    with running(SPIN) as pid:
        vigil = Vigil(pid, PATIENCE_S)
        assert noticed_after_s(vigil, 2 * PATIENCE_S) is None
        os.kill(pid, signal.SIGSTOP)
        assert noticed_after_s(vigil, 9) is not None


def test_one_that_computes_is_left_alone() -> None:
    with running(SPIN) as pid:
        assert noticed_after_s(Vigil(pid, PATIENCE_S), 3 * PATIENCE_S) is None


def test_one_that_waits_for_its_children_is_left_alone() -> None:
    waits = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])"
    with running(waits) as pid:
        assert noticed_after_s(Vigil(pid, PATIENCE_S), 3 * PATIENCE_S) is None


def test_one_that_says_something_is_left_alone() -> None:
    with running("import time; time.sleep(99)") as pid:
        assert noticed_after_s(Vigil(pid, PATIENCE_S), 3 * PATIENCE_S, says=True) is None


def test_while_nobody_looks_no_time_passes() -> None:
    with running("import time; time.sleep(99)") as pid:
        vigil = Vigil(pid, PATIENCE_S)
        time.sleep(2 * PATIENCE_S)
        assert not vigil.look(0)


def test_one_that_has_ended_can_still_be_asked_about() -> None:
    with running("") as pid:
        vigil = Vigil(pid, PATIENCE_S)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert noticed_after_s(vigil, 9) is not None
