"""Child processes: tied to their parent, in a session of their own, ended within a time limit."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie counts as ended: nobody may be left to reap it)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_child_leads_a_session_of_its_own() -> None:
    child = processes.spawn(SLEEP)
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        processes.kill(child)


def test_a_child_dies_when_its_parent_is_killed() -> None:
    program = (
        "import sys, time; from workers import processes\n"
        "child = processes.spawn([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert eventually(lambda: b"sleep(60)" in Path(f"/proc/{child}/cmdline").read_bytes())
        assert eventually(lambda: b"tether" not in Path(f"/proc/{child}/cmdline").read_bytes())
        parent.kill()
    assert eventually(lambda: gone(child))


def test_a_child_outlives_the_thread_that_asked_for_it() -> None:
    children: list[processes.Process] = []
    thread = threading.Thread(target=lambda: children.append(processes.spawn(SLEEP)))
    thread.start()
    thread.join()
    (child,) = children
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.7)
    finally:
        processes.kill(child)


def test_a_command_that_does_not_exist_ends_with_an_error_status() -> None:
    child = processes.spawn(["/no/such/program"], stderr=subprocess.DEVNULL)
    assert child.wait(5) != 0


def test_killing_takes_the_whole_session() -> None:
    program = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    child = processes.spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        processes.kill(child)
    assert eventually(lambda: gone(grandchild))


def test_a_child_that_ignores_sigterm_is_killed_when_patience_ends() -> None:
    program = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = processes.spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.end(child, 0.3) == -signal.SIGKILL


def test_a_child_that_obeys_sigterm_is_not_waited_for_longer() -> None:
    child = processes.spawn(["sleep", "60"])
    assert eventually(lambda: b"tether" not in Path(f"/proc/{child.pid}/cmdline").read_bytes())
    began = time.monotonic()
    assert processes.end(child, 20) == -signal.SIGTERM
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "exited with status 3"),
        (-9, "was killed by SIGKILL (perhaps out of memory)"),
        (-11, "was killed by SIGSEGV"),
        (-50, "was killed by signal 50"),
    ],
)
def test_last_words_name_the_status_or_the_signal(status: int, words: str) -> None:
    assert processes.last_words(status) == words
