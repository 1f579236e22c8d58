"""A lock that processes share: a file that one of them holds."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(lock: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold the file, once nobody else does; whoever has to wait for that is told first. The kernel lets go of it when a
    process ends, however it ends."""
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
