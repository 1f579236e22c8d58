"""The models that are to be in memory before anybody asks, and those that need not be there any more."""

import asyncio
from contextlib import suppress

import structlog
from anyio.to_thread import run_sync

from app.prediction.service import PredictionService
from models.errors import Unavailable
from workers import models_in_memory
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
        self._residents: list[ModelVersion] = []
        self._loaded: dict[str, ModelVersion] = {}
        self.missing: tuple[str, ...] | None = None
        """Names of the start that are still being loaded; None before it is known which ones are to be. What is chosen
        later is not among them: the versions before it go on serving."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._watch.close()

    async def _follow(self) -> None:
        behind = True
        while True:
            try:
                behind = self._watch.changed() or behind
                if behind:
                    await self._look()
                    behind = not await self._load_all()
                self._pin()
            except Unavailable:  # of the database: the next look comes soon
                pass
            except Exception:  # whatever it is, the others are still to be followed
                log.exception("registry_not_followed")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        cache = self._predictions.cache
        if hashes := cache.hashes:
            cache.drop_all(hashes - await run_sync(models_in_memory.served, self._database, hashes))
        self._residents = await run_sync(models_in_memory.residents, self._database)

    def _pin(self) -> None:
        """What `auto` takes of each: its other engines make room as any model does."""
        key = self._predictions.choice.key
        pinned = (one for one in self._residents if one.model_serving.load == "pinned")
        self._predictions.cache.pinned = frozenset(key(one, "auto") for one in pinned)

    async def _load_all(self) -> bool:
        """Whether all are there, or known to be damaged."""
        wanted = {one.name: one for one in self._residents}
        self._loaded = {name: one for name, one in self._loaded.items() if wanted.get(name) == one}
        todo = sorted(wanted.keys() - self._loaded.keys())
        is_start = self.missing != ()
        self._pin()
        for name in todo:
            if is_start:
                self.missing = tuple(one for one in todo if one not in self._loaded)
            await self._load(name, wanted[name])
        if is_start:
            self.missing = ()
        return not wanted.keys() - self._loaded.keys()

    async def _load(self, name: str, version: ModelVersion) -> None:
        """What cannot be loaded is logged, and whoever asks for it is told. What lacked room or a database is tried
        again."""
        try:
            await self._predictions.found(name, "auto")
        except Unavailable as problem:
            log.warning("model_not_loaded_yet", model=name, version=version.version, error=problem.detail)
            return
        except Exception as problem:  # noqa: BLE001 - the others are loaded all the same
            log.warning("model_not_loaded", model=name, version=version.version, error=str(problem))
        self._loaded[name] = version
