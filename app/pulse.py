"""Signs of life from the event loops of the processes that serve one port.

A process that has died is seen by its parent; one that hangs keeps its share of the connections and answers none.
"""

import os
import select
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

BEAT = struct.Struct("=i")
"""A process id. Far shorter than PIPE_BUF, so that those of several processes do not mix (pipe(7))."""


def beat(descriptor: int) -> None:
    """Write one sign of this process into the pipe; a full one has enough of them."""
    with suppress(BlockingIOError):
        os.write(descriptor, BEAT.pack(os.getpid()))


@dataclass
class _Signs:
    """Of one process: whether it has ever given one, and for how many looks in a row it has not."""

    alive: bool = False
    missed: int = 0


class Pulse:
    """The pipe in which they arrive, and what they say of the processes that are watched.

    Silence is counted in looks, not in seconds: whoever stops us and all of them for a while, as `docker pause` does,
    has not made them hang.
    """

    def __init__(self) -> None:
        self._arriving, self.descriptor = os.pipe()
        for end in (self._arriving, self.descriptor):
            os.set_blocking(end, False)
        self._signs: dict[int, _Signs] = {}

    def watch(self, pids: Iterable[int]) -> None:
        """Exactly these from now on: others have ended, and the system gives their ids away again."""
        self._signs = {pid: self._signs.get(pid, _Signs()) for pid in pids}

    def take(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived, after at most so long a wait for the first of it."""
        select.select([self._arriving], [], [], wait_s)
        with suppress(BlockingIOError):
            while beats := os.read(self._arriving, 1024 * BEAT.size):
                for (pid,) in set(BEAT.iter_unpack(beats)):
                    if pid in self._signs:
                        self._signs[pid] = _Signs(alive=True)

    def look(self) -> None:
        """Count one more look, and take in what has arrived."""
        for signs in self._signs.values():
            signs.missed += 1
        self.take()

    def alive(self, pid: int) -> bool:
        """Whether this watched process has ever given a sign."""
        return self._signs[pid].alive

    def missed(self, pid: int) -> int:
        """Looks in a row without a sign of this watched process."""
        return self._signs[pid].missed

    def close(self) -> None:
        os.close(self._arriving)
        os.close(self.descriptor)
