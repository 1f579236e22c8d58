"""The models that are to be in memory before anybody asks, and those that need not be there any more."""

import asyncio
from contextlib import suppress

import structlog
from anyio.to_thread import run_sync

from app.prediction.service import PredictionService
from models.errors import TandemError, Unavailable
from workers import registry
from workers.database import Database
from workers.registry import ModelVersion
from workers.watch import watch

LOOK_EVERY_S = 0.5

log = structlog.get_logger("app.prediction")


class Residents:
    """Follows the registry: loads what is to be loaded, lets go of what was unloaded or deleted. Used on the event
    loop."""

    def __init__(self, database: Database, predictions: PredictionService) -> None:
        self._database = database
        self._predictions = predictions
        self._watch = watch(database)
        self._task: asyncio.Task[None] | None = None
        self._loaded: dict[str, ModelVersion] = {}
        self.missing: tuple[str, ...] | None = None
        """Names that are still being loaded; None before it is known which ones are to be."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._watch.close()

    async def _follow(self) -> None:
        while True:
            if self._watch.changed():
                with suppress(Unavailable):  # of the database: another look comes
                    await self._let_go()
                    await self._settle(await run_sync(registry.residents, self._database))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _let_go(self) -> None:
        """Of what was unloaded or deleted."""
        cache = self._predictions.cache
        if hashes := cache.hashes:
            cache.drop_all(hashes - await run_sync(registry.served, self._database, hashes))

    async def _settle(self, residents: list[ModelVersion]) -> None:
        pinned = (one.sha256 for one in residents if one.model_serving.load == "pinned")
        self._predictions.cache.pinned = frozenset(pinned)
        wanted = {one.name: one for one in residents}
        self._loaded = {name: one for name, one in self._loaded.items() if wanted.get(name) == one}
        todo = wanted.keys() - self._loaded.keys()
        for name in sorted(todo):
            self.missing = tuple(sorted(todo - self._loaded.keys()))
            await self._load(name, wanted[name])
        self.missing = ()

    async def _load(self, name: str, version: ModelVersion) -> None:
        try:
            await self._predictions.found(name, "auto")
        except TandemError as problem:  # whoever asks for it is told; the others are served meanwhile
            log.warning("model_not_loaded", model=name, version=version.version, error=problem.detail)
        self._loaded[name] = version
