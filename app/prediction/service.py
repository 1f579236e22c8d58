"""Answers predictions: which version, which engine, then a batch with whoever else asks the same model."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import structlog
from anyio.to_thread import run_sync
from starlette.types import Receive

from app.counts import Counts, Predicted
from app.prediction.batching import Computed, Outcome, RunnerPool
from app.prediction.cache import Key, LoadedModel, ModelCache
from app.prediction.choice import EngineChoice, is_of_the_model, unloaded
from app.prediction.loading import Loader, limits_of
from app.prediction.query import Query, Reply, Served
from app.schemas.predictions import Engine
from models.errors import NotFound, Unavailable
from models.framework import EngineName
from workers import registry
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.registry import ModelVersion
from workers.settings import Settings
from workers.watch import watch

MOST_REFERENCES = 4096
"""Names whose version is remembered."""

log = structlog.get_logger("app.prediction")


class PredictionService:
    """Predicts with registered models. Used on the event loop; what takes long runs in threads."""

    def __init__(self, settings: Settings, database: Database, store: ArtifactStore, counts: Counts) -> None:
        self._settings = settings
        self._database = database
        self._counts = counts
        self.loaders = ThreadPoolExecutor(2, "model-loader")
        self._readers = ThreadPoolExecutor(settings.serving_threads, "input-reader")
        self._warmers = ThreadPoolExecutor(1, "model-warmer")
        self.computers = ThreadPoolExecutor(settings.serving_threads, "predictor")
        self._watch = watch(database)
        self._versions: dict[str, ModelVersion] = {}
        self._known: dict[tuple[str, Engine], tuple[Served, Key]] = {}
        self._finding: set[asyncio.Task[Served]] = set()
        self._generation = 0
        self._looked = False
        pool = RunnerPool(self.computers, settings.serving_threads)
        load = Loader(settings, store, pool, self._warmers)
        self.cache = ModelCache(load, self.loaders, settings.model_cache_bytes)
        self.choice = EngineChoice(settings, database, store, self.cache, self._warmers)

    def close(self) -> None:
        gc.unfreeze()  # libraries count what is left of theirs when the process ends
        self._watch.close()
        for threads in (self.loaders, self._warmers, self._readers, self.computers):
            threads.shutdown(cancel_futures=True)

    async def predict(self, query: Query, receive: Receive) -> Reply | None:
        """The answer; None once `receive`, which has given the whole body, tells that the client has gone.

        Raises NotFound, InvalidInput, Unavailable, CorruptArtifact.
        """
        began = perf_counter()
        served = self.at_hand(query.model, query.engine) or await self._found_in_time(query, began)
        asked = self._asked(query, served, began)
        try:
            if query.is_quick(served.model.card):
                x = asked.read()
            else:
                x = await asyncio.get_running_loop().run_in_executor(self._readers, asked.read)
            queue = served.model.queue(x)
            waiting = queue.submit(x, self._deadline(query, began), served.limits)
            computed = await (waiting if queue.is_inline else _while_there(waiting, receive))
            return None if computed is None else asked.reply(computed)
        except Exception:
            asked.failed()
            raise

    def begin(self, query: Query, tell: Callable[[Reply | Exception], None]) -> Callable[[], None] | None:
        """As `predict`, for a model that is at hand and inputs that are read at once: the answer, or what `predict`
        would raise, is told later. Gives what to call when the client goes first; None, and nothing has been done, for
        other queries.

        Raises InvalidInput, Unavailable.
        """
        began = perf_counter()
        served = self.at_hand(query.model, query.engine)
        if served is None or not query.is_quick(served.model.card):
            return None
        asked = self._asked(query, served, began)
        try:
            x = asked.read()
            queue = served.model.queue(x)
            told = partial(asked.told, tell)
            waiting = queue.enqueue(x, self._deadline(query, began), told, served.limits)
        except Exception:
            asked.failed()
            raise
        return partial(queue.leave, waiting)

    def _asked(self, query: Query, served: Served, began: float) -> "Asked":
        about = self._counts.about(served.version.name, served.version.version, served.engine)
        return Asked(query, served, about, began)

    def _deadline(self, query: Query, began: float) -> float:
        patience_s = self._settings.predict_timeout_s
        if query.timeout_s is not None:
            patience_s = min(patience_s, query.timeout_s)
        return began + patience_s

    def at_hand(self, reference: str, engine: Engine) -> Served | None:
        """What a reference means and its model, if both are known and nothing has changed since."""
        if not self._looked:
            self._look()
        if (known := self._known.get((reference, engine))) is not None:
            served, key = known
            if self.cache.ready(key) is served.model:
                return served
        version = self._versions.get(reference)
        if version is None:
            return None
        key = self.choice.key(version, engine)
        model = self.cache.ready(key)
        if model is None:
            return None
        served = self._served(version, key[1].engine, model)
        if engine != "auto" or self.choice.known(version) is not None:  # else it may change
            self._known[reference, engine] = served, key
        return served

    def _look(self) -> None:
        """Whether anything has changed; asked once for all requests of a turn of the loop."""
        if self._watch.changed():
            self._versions.clear()
            self._known.clear()
            self._generation += 1
        self._looked = True
        asyncio.get_running_loop().call_soon(self._look_again)

    def _look_again(self) -> None:
        self._looked = False

    async def found(self, reference: str, engine: Engine) -> Served:
        """What a reference means, and its model, loaded now if it is not. Raises NotFound, Unavailable,
        CorruptArtifact."""
        generation = self._generation
        version = await run_sync(self._resolved, reference)
        if not version.enabled:
            self._drop(version)
            raise unloaded(version)
        if generation == self._generation:  # else it may have changed while it was looked up
            if len(self._versions) >= MOST_REFERENCES:
                self._versions.clear()
                self._known.clear()
            self._versions[reference] = version
        if engine == "auto" and self._settings.measure_engines:
            await self.choice.recall(version)
        _, variant = self.choice.key(version, engine)
        try:
            model = await self.cache.get(version.sha256, variant, version.size_bytes)
        except Exception as problem:
            exact = self.choice.reference(version)
            if engine != "auto" or exact == variant or is_of_the_model(problem):
                raise
            log.warning("chosen_engine_fails", model=version.name, engine=variant.engine, error=str(problem))
            await self.choice.forget(version)
            variant = exact
            model = await self.cache.get(version.sha256, variant, version.size_bytes)
        if engine == "auto" and self._settings.measure_engines:
            self.choice.weigh(version)
        return self._served(version, variant.engine, model)

    def _served(self, version: ModelVersion, engine: EngineName, model: LoadedModel) -> Served:
        return Served(version, engine, model, limits_of(version.model_serving, self._settings))

    async def _found_in_time(self, query: Query, began: float) -> Served:
        """As `found`. What takes longer than the query may wait, or its client does, goes on for who asks next."""
        finding = asyncio.create_task(self.found(query.model, query.engine))
        self._finding.add(finding)
        finding.add_done_callback(self._settle)
        await asyncio.wait({finding}, timeout=self._deadline(query, began) - perf_counter())
        if not finding.done():
            raise Unavailable(
                f"Model {query.model!r} is still being loaded. Ask again in a moment.", code="model_loading"
            )
        return finding.result()

    def _settle(self, finding: asyncio.Task[Served]) -> None:
        self._finding.discard(finding)
        if not finding.cancelled():
            finding.exception()  # whoever asked may be gone; then nobody else looks at it

    async def load(self, name: str) -> None:
        """Let a model answer from now on, and have it in memory. Raises NotFound, Unavailable, CorruptArtifact."""
        await run_sync(registry.set_enabled, self._database, name, True)
        await self.found(name, "auto")

    async def unload(self, name: str) -> None:
        """Let a model answer no more, and free its memory; what is being computed is answered still. Other processes
        free theirs soon (see residents.py). Raises NotFound."""
        model = await run_sync(registry.set_enabled, self._database, name, False)
        for version in model.versions:
            self._drop(version)

    def _drop(self, version: ModelVersion) -> None:
        for variant in self.cache.loaded(version.sha256):
            self.cache.drop((version.sha256, variant))

    def _resolved(self, reference: str) -> ModelVersion:
        try:
            return registry.resolve(self._database, reference)
        except NotFound as error:
            raise NotFound(error.detail, pointer="/model", code="unknown_model") from None


@dataclass(slots=True)
class Asked:
    """A query under way, and what is counted of it. `began` is `perf_counter`'s."""

    query: Query
    served: Served
    about: Predicted
    began: float
    input_s: float = 0.0

    def read(self) -> np.ndarray:
        """The inputs. Raises InvalidInput."""
        start = perf_counter()
        x = self.query.read(self.served.model.card)
        self.input_s = perf_counter() - start
        return x

    def reply(self, computed: Computed) -> Reply:
        """Raises InvalidInput where the logits are no answer."""
        start = perf_counter()
        found = self.query.write(self.served, computed)
        end = perf_counter()
        self.about.succeeded(computed, self.input_s, end - start, end - self.began)
        return found

    def told(self, tell: Callable[[Reply | Exception], None], outcome: Outcome) -> None:
        """Tell the reply, or why there is none."""
        if isinstance(outcome, Exception):
            self.failed()
            tell(outcome)
            return
        try:
            found = self.reply(outcome)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the request's answer
            self.failed()
            tell(error)
        else:
            tell(found)

    def failed(self) -> None:
        self.about.failed(perf_counter() - self.began)


async def _while_there(waiting: asyncio.Future[Computed], receive: Receive) -> Computed | None:
    """What is waited for; None when the client goes first, whose place in the queue is given up then."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        gone.cancel()
        waiting.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
