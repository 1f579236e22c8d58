"""How trainers are started: their command, and what their environment says about threads and caches."""

import os
import sys

from models.framework import Framework
from workers.settings import Settings


def command(framework: Framework, settings: Settings) -> list[str]:
    return [sys.executable, "-m", "workers.trainer", "--framework", framework, "--device", settings.device]


def environment(settings: Settings) -> dict[str, str]:
    """The same for every framework; each reads its own part."""
    threads = str(settings.threads or default_threads(settings.slots))
    # Without this JAX sets up a GPU that it finds, whether it is to compute there or not.
    platforms = {"JAX_PLATFORMS": "cpu"} if settings.device == "cpu" else {}
    return {
        **platforms,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "NPROC": threads,  # XLA's name for the size of its CPU thread pool
        "JAX_COMPILATION_CACHE_DIR": str(settings.cache_dir / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
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
