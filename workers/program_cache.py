"""What JAX has compiled, kept for every process and the next start: where it is, and how much of it.

JAX can bound it itself (`jax_compilation_cache_max_size`), but then fails to write for good once a process is killed
between an entry and its time stamp, as in what older versions of Tandem left, which has none.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from workers.settings import Settings

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
ENTRIES = "*-cache"
IN_USE_S = 60.0
"""An entry used so lately may be being read."""


def environment(settings: Settings) -> dict[str, str]:
    """JAX's variables. Where its own says already where compiled programs are, they are there, else in the data
    folder."""
    return {
        VARIABLE: os.environ.get(VARIABLE) or str(_ours(settings)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def make_room(settings: Settings) -> None:
    """Delete the longest unused of the data folder's until they take no more than `program_cache_bytes`; what cannot be
    deleted is passed over."""
    found = []
    for path in _ours(settings).glob(ENTRIES):
        with suppress(OSError):
            found.append((path.stat(), path))
    excess = sum(stat.st_size for stat, _ in found) - settings.program_cache_bytes
    for stat, path in sorted(found, key=lambda each: _used_at(each[0])):
        if excess <= 0 or time.time() - _used_at(stat) < IN_USE_S:
            return
        with suppress(OSError):
            path.unlink(missing_ok=True)
            excess -= stat.st_size


def _ours(settings: Settings) -> Path:
    return settings.cache_dir / "jax"


def _used_at(stat: os.stat_result) -> float:
    """Seconds since 1970. Most systems note when a file is read, at least once a day; else it is when it was made."""
    return max(stat.st_atime, stat.st_mtime)
