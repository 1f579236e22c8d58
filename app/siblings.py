"""The processes that serve one port: each tells the others what it has counted, over a socket of its own in a folder
that only they know."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from app.counts import Counts

PATIENCE_S = 1.0
"""A process that does not tell within this is left out: it may have just died."""


@dataclass(frozen=True)
class Place:
    """Which of the processes this is, counted from 0; `folder` holds their sockets, None where there is only one."""

    number: int = 0
    folder: Path | None = None

    @property
    def socket(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.number}.sock"


@dataclass(frozen=True)
class State:
    """What a process tells about itself."""

    counts: Counts
    model_cache: Mapping[str, float]


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
        """What every process tells, by its number."""
        others = [path for path in self._others() if path != self._place.socket]
        told = await asyncio.gather(*map(_asked, others))
        found = {int(path.stem): state for path, state in zip(others, told, strict=True) if state is not None}
        return {self._place.number: self._state(), **found}

    def _others(self) -> list[Path]:
        return [] if self._place.folder is None else sorted(self._place.folder.glob("*.sock"))

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = self._state()
        with suppress(OSError):
            writer.write(orjson.dumps([dict(state.model_cache), state.counts.to_json().decode()]))
            await writer.drain()
        writer.close()


async def _asked(path: Path) -> State | None:
    with suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                model_cache, counts = orjson.loads(await reader.read())
            finally:
                writer.close()
        return State(Counts.from_json(counts.encode()), model_cache)
    return None
