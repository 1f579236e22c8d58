"""Child processes that never outlive us: each in a session of its own, killed by the kernel when we end."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import structlog

KILLED_WITHIN_S = 5.0
TETHER = Path(__file__).with_name("tether.py")

log = structlog.get_logger(__name__)

Process = subprocess.Popen[bytes]
Stream = int | IO[bytes] | None


class Nursery:
    """The one thread that starts children.

    The kernel sends the parent's death signal when the *thread* that forked ends (prctl(2),
    PR_SET_PDEATHSIG), so a child started from a pool's thread would die with that thread. This one lives as
    long as the process.
    """

    def __init__(self) -> None:
        self._births: SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = SimpleQueue()
        threading.Thread(target=self._serve, name="nursery", daemon=True).start()

    def start(self, birth: Callable[[], Process]) -> Process:
        """Call `birth` in the nursery's thread; raises what it raises."""
        future: Future[Process] = Future()
        self._births.put((birth, future))
        return future.result()

    def _serve(self) -> None:
        while True:
            birth, future = self._births.get()
            try:
                future.set_result(birth())
            except BaseException as problem:  # noqa: BLE001 - handed to the caller of start()
                future.set_exception(problem)


_nursery_lock = threading.Lock()
_nursery: Nursery | None = None


def nursery() -> Nursery:
    """This process's nursery."""
    global _nursery
    with _nursery_lock:
        if _nursery is None:
            _nursery = Nursery()
        return _nursery


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    keep: Sequence[int] = (),
) -> Process:
    """Start `command` in its own session, tied to this process.

    `environment` is added to ours; `keep` are file descriptors the child inherits under the same numbers.
    """

    def birth() -> Process:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
            env={**os.environ, **(environment or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(keep),
            start_new_session=True,
        )

    return nursery().start(birth)


def kill(process: Process) -> None:
    """SIGKILL the child and all of its session, and reap it. Does nothing to a child already reaped.

    One that waits for a broken device does not even end then; it is not waited for.
    """
    if process.poll() is None:
        signal_all(process, signal.SIGKILL)
        try:
            process.wait(KILLED_WITHIN_S)
        except subprocess.TimeoutExpired:
            log.error("a killed process does not end; is a device broken?", pid=process.pid)


def signal_all(process: Process, number: signal.Signals) -> None:
    """To the child and all of its session. Does nothing to a child already reaped."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def end(process: Process, patience_s: float) -> int:
    """SIGTERM the child, SIGKILL it after `patience_s`; returns its exit status (negative: the signal)."""
    if process.poll() is None:
        process.terminate()
    return await_end(process, patience_s)


def await_end(process: Process, patience_s: float) -> int:
    """Wait for a child to end by itself, SIGKILL it after `patience_s`; returns its exit status."""
    try:
        return process.wait(max(0.0, patience_s))
    except subprocess.TimeoutExpired:
        kill(process)
        return -signal.SIGKILL if process.returncode is None else process.returncode


def last_words(status: int) -> str:
    """How a child ended, for people: `exited with status 1`, `was killed by SIGSEGV`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (perhaps out of memory)" if -status == signal.SIGKILL else "")
