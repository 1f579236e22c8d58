"""Verdicts on engines that last: over restarts, and for all processes of this machine. Measuring takes seconds, and two
that measure at once disturb each other."""

import asyncio
import fcntl
import hashlib
import os
import platform
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import time
from typing import IO

from pydantic import TypeAdapter, ValidationError

from app.prediction.evidence import Verdict
from models.makers import makers
from workers.settings import Settings

VALID_S = 7 * 24 * 3600.0
PAUSE_S = 0.1
PATIENCE = 600
_VERDICT = TypeAdapter(Verdict)


class KeptVerdicts:
    """Files in the cache folder, which may be lost. What depends on the machine and its packages is kept under both."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.cache_dir / "engines"
        self._here = _here(settings)

    def read(self, model: tuple[str, str]) -> Verdict | None:
        """The verdict on this model, if there is one that is not too old."""
        path = self._path(model)
        with suppress(OSError, ValidationError):
            if time() - path.stat().st_mtime < VALID_S:
                return _VERDICT.validate_json(path.read_bytes())
        return None

    def write(self, model: tuple[str, str], found: Verdict) -> None:
        """A disk that is full costs nothing but another measurement."""
        path = self._path(model)
        draft = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            draft.write_bytes(_VERDICT.dump_json(found))
            draft.replace(path)

    def forget(self, model: tuple[str, str]) -> None:
        with suppress(OSError):
            self._path(model).unlink(missing_ok=True)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While no other process measures, if that can be had: two that measure at once only measure worse."""
        with ExitStack() as held:
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                file = held.enter_context((self._folder / "lock").open("ab"))
                for _ in range(PATIENCE):
                    if _is_locked(file):
                        break
                    await asyncio.sleep(PAUSE_S)
            yield

    def _path(self, model: tuple[str, str]) -> Path:
        name = hashlib.sha256("\n".join((*model, self._here)).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _is_locked(file: IO[bytes]) -> bool:
    """Whether it is ours now. Raises OSError where files cannot be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _here(settings: Settings) -> str:
    """What a measurement depends on besides the model."""
    about = [
        platform.machine(),
        _processor(),
        os.cpu_count(),
        settings.serving_device,
        settings.serving_threads,
        settings.processes,
        makers(),
    ]
    return "\n".join(map(str, about))


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()
