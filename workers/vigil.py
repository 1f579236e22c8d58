"""Notices a trainer that lives and does nothing: stopped, deadlocked, or waiting for what will never come."""

import time

import psutil

LOOKS = 60
"""So many within the time that a trainer may be idle; of a tiny time, as many as `LOOK_EVERY_S` allows."""
LOOK_EVERY_S = 0.2
BUSY_SHARE = 0.001
"""Of one core. Threads that wait still wake now and then."""


class Vigil:
    """Over one process, its children and what they say. `look` is called often, by one thread.

    Time counts only between two looks that follow each other: when a whole machine or container was asleep, nobody has
    been idle.
    """

    def __init__(self, pid: int, patience_s: float) -> None:
        self._pid, self._patience_s = pid, patience_s
        self._every_s = max(LOOK_EVERY_S, patience_s / LOOKS)
        self._idle_s = 0.0
        self._said = 0
        self._cpu_s = _cpu_s(pid)
        self._looked_at = time.monotonic()

    def look(self, said: int) -> bool:
        """Whether it has said nothing and computed next to nothing for `patience_s` seconds; `said` counts the bytes
        that have come from it."""
        now = time.monotonic()
        since_s = now - self._looked_at
        if since_s < self._every_s:
            return False
        self._looked_at = now
        cpu_s = _cpu_s(self._pid)
        self._cpu_s = min(self._cpu_s, cpu_s)  # less than before, where somebody else reaped a child
        if said != self._said or cpu_s - self._cpu_s > BUSY_SHARE * self._patience_s:
            self._said, self._cpu_s, self._idle_s = said, cpu_s, 0.0
        else:
            self._idle_s += min(since_s, 2 * self._every_s)
        return self._idle_s >= self._patience_s


def _cpu_s(pid: int) -> float:
    """What the process, and all that it has started, have computed."""
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(map(_own_cpu_s, family))


def _own_cpu_s(process: psutil.Process) -> float:
    """With that of its children that have ended."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.Error:
        return 0.0
