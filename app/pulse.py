"""Signs of life from the event loops of the processes that serve one port.

A process that has died is seen by its parent; one that hangs keeps its share of the connections and answers none.
"""

import os
import select
import struct
from collections.abc import Collection
from contextlib import suppress

BEAT = struct.Struct("=i")
"""A process id. Far shorter than PIPE_BUF, so that those of several processes do not mix (pipe(7))."""


def beat(descriptor: int) -> None:
    """Write one sign of this process into the pipe; a full one has enough of them."""
    with suppress(BlockingIOError):
        os.write(descriptor, BEAT.pack(os.getpid()))


class Pulse:
    """The pipe in which they arrive, and for how many looks in a row each process has given none.

    Counted in looks, not in seconds: whoever stops us and all of them for a while, as `docker pause` does, has not made
    them hang.
    """

    def __init__(self) -> None:
        self._arriving, self.descriptor = os.pipe()
        for end in (self._arriving, self.descriptor):
            os.set_blocking(end, False)
        self._missed: dict[int, int] = {}

    def look(self, wait_s: float = 0.0) -> None:
        """Take in what has arrived, after at most so long a wait for the first of it."""
        select.select([self._arriving], [], [], wait_s)
        self._missed = {pid: looks + 1 for pid, looks in self._missed.items()}
        with suppress(BlockingIOError):
            while signs := os.read(self._arriving, 1024 * BEAT.size):
                self._missed.update(dict.fromkeys((pid for (pid,) in BEAT.iter_unpack(signs)), 0))

    def missed(self, pid: int) -> int | None:
        """Looks in a row without a sign of this process; None as long as it has never given one."""
        return self._missed.get(pid)

    def keep(self, pids: Collection[int | None]) -> None:
        """Forget all other processes: they have ended, and the system gives their ids to others."""
        self._missed = {pid: looks for pid, looks in self._missed.items() if pid in pids}

    def close(self) -> None:
        os.close(self._arriving)
        os.close(self.descriptor)
