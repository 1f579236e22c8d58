"""How trainers are started: their command, and what their environment says about threads and caches."""

import os
import sys

from models.framework import Framework
from workers import program_cache
from workers.settings import Settings

MEMORY = {
    "MALLOC_ARENA_MAX": "1",  # other arenas give everything large to the system, whatever the next two say
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""Has glibc keep what a step allocates for the next step. Usually it hands large blocks back to the system, which then
clears them page by page for every step anew, which an LSTM spends much of its time on. Other C libraries do not look at
it."""


def command(framework: Framework, settings: Settings) -> list[str]:
    return [sys.executable, "-m", "workers.trainer", "--framework", framework, "--device", settings.device]


def environment(settings: Settings) -> dict[str, str]:
    """The same for every framework; each reads its own part."""
    threads = str(settings.threads or default_threads(settings.slots))
    # Without this JAX sets up a GPU that it finds, whether it is to compute there or not.
    platforms = {"JAX_PLATFORMS": "cpu"} if settings.device == "cpu" else {}
    return {
        **platforms,
        **MEMORY,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NPROC": threads,  # XLA's name for the size of its CPU thread pool
        **program_cache.environment(settings),
        # JAX would take three quarters of a GPU's memory at once, the waiting spare included.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def default_threads(trainers: int) -> int:
    """Threads of one of so many trainers on this machine: two that share a core fall to a tenth of their speed."""
    return max(1, _cores() // trainers)


def _cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
