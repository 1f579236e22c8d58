"""The processes that serve one port: each tells the others what it has counted, over a socket of its own in a folder
that only they know."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import orjson

from app.counts import Counts
from app.place import Place
from app.prediction.cache import Held

PATIENCE_S = 1.0
"""A process that does not tell within this is left out: it may have just died."""


@dataclass(frozen=True)
class State:
    """What a process tells about itself."""

    counts: Counts
    model_cache: Mapping[str, float]
    held: Sequence[Held]

    def to_json(self) -> bytes:
        """For `from_json` in another process."""
        return orjson.dumps([self.counts.plain(), dict(self.model_cache), list(map(tuple, self.held))])

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        counts, model_cache, held = orjson.loads(text)
        return cls(Counts.of(counts), model_cache, [Held(*one) for one in held])


class Siblings:
    """This process among its siblings. Used on the event loop; `state` gives what it tells."""

    def __init__(self, place: Place, state: Callable[[], State]) -> None:
        self._place = place
        self._state = state
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        if (path := self._place.socket) is not None:
            path.unlink(missing_ok=True)  # of a predecessor that was killed
            self._server = await asyncio.start_unix_server(self._tell, path)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def states(self) -> dict[int, State]:
        """What every process tells, by its number; for any thread."""
        others = [path for path in self._others() if path != self._place.socket]
        told = await asyncio.gather(*map(_asked, others))
        found = {int(path.stem): state for path, state in zip(others, told, strict=True) if state is not None}
        own = self._state()
        return {self._place.number: replace(own, counts=own.counts.copy()), **found}

    def _others(self) -> list[Path]:
        return [] if self._place.folder is None else sorted(self._place.folder.glob("*.sock"))

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(self._state().to_json())
            await writer.drain()
        writer.close()


async def _asked(path: Path) -> State | None:
    with suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return State.from_json(await reader.read())
            finally:
                writer.close()
    return None
