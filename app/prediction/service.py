"""Answers predictions: which version, which engine, then a batch with whoever else asks the same model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import structlog
from anyio.to_thread import run_sync
from starlette.types import Receive

from app.metrics import Metrics
from app.prediction.batching import Batcher, Computed, Join, Limits, RunnerPool
from app.prediction.cache import LoadedModel, ModelCache
from app.prediction.evidence import BATCHES, Evidence, Verdict, measure, verdict
from app.prediction.query import Query, Reply, Served
from app.prediction.statistics import Statistics
from models import engine
from models.engine import Definition, Predictor
from models.errors import CorruptArtifact, NotFound, Unavailable
from models.exports.checking import samples
from models.framework import FRAMEWORKS, Framework
from models.signature import Input, TokenInput
from models.weights import ModelCard, read_weights
from workers import registry
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.registry import ModelVersion
from workers.settings import Settings
from workers.watch import watch

INLINE_S = 0.0005
"""A model that computes `PROBE_ROWS` faster than this is computed on the event loop: a thread would take longer to
wake."""
PROBE_ROWS = 8
MOST_REFERENCES = 4096
"""Names whose version is remembered."""

log = structlog.get_logger("app.prediction")


class PredictionService:
    """Predicts with registered models. Used on the event loop; what takes long runs in threads."""

    def __init__(
        self, settings: Settings, database: Database, store: ArtifactStore, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._metrics = metrics
        self._loaders = ThreadPoolExecutor(2, "model-loader")
        self._readers = ThreadPoolExecutor(settings.serving_threads, "input-reader")
        self._warmers = ThreadPoolExecutor(1, "model-warmer")
        self.computers = ThreadPoolExecutor(settings.serving_threads, "predictor")
        self._pool = RunnerPool(self.computers, settings.serving_threads)
        self._watch = watch(database)
        self._versions: dict[str, ModelVersion] = {}
        self._verdicts: dict[str, asyncio.Task[Verdict]] = {}
        self._generation = 0
        self.statistics = Statistics()
        self.cache = ModelCache(self._load, self._loaders, settings.model_cache_bytes)
        metrics.watch_model_cache(self.cache.state)

    def close(self) -> None:
        self._watch.close()
        for threads in (self._loaders, self._warmers, self._readers, self.computers):
            threads.shutdown(cancel_futures=True)

    async def predict(self, query: Query, receive: Receive) -> Reply | None:
        """The answer; None once `receive`, which has given the whole body, tells that the client has gone.

        Raises NotFound, InvalidInput, Unavailable, CorruptArtifact.
        """
        began = perf_counter()
        served = self.at_hand(query.model, query.engine) or await self._found(query.model, query.engine)
        try:
            return await self._answered(query, served, began, receive)
        except Exception:
            self._metrics.observe_failure(served.version.name, served.framework)
            self.statistics.failed(served.version.name, served.version.version, perf_counter() - began)
            raise

    async def _answered(self, query: Query, served: Served, began: float, receive: Receive) -> Reply | None:
        start, card = perf_counter(), served.model.card
        if query.is_quick(card):
            x = query.read(card)
        else:
            x = await asyncio.get_running_loop().run_in_executor(self._readers, query.read, card)
        input_s = perf_counter() - start
        queue = served.model.queue(x)
        waiting = queue.submit(x, began + (query.timeout_s or self._settings.predict_timeout_s))
        computed = await (waiting if queue.is_inline else _while_there(queue, waiting, receive))
        if computed is None:
            return None
        start = perf_counter()
        found = query.write(served, computed)
        end = perf_counter()
        name, output_s = served.version.name, end - start
        self._metrics.observe_prediction(name, served.framework, computed, input_s, output_s)
        self.statistics.succeeded(
            name, served.version.version, computed, input_s, output_s, total_s=end - began
        )
        return found

    def at_hand(self, reference: str, engine: str) -> Served | None:
        """What a reference means and its model, if both are known and nothing has changed since."""
        if self._watch.changed():
            self._versions.clear()
            self._generation += 1
        version = self._versions.get(reference)
        if version is None:
            return None
        framework = self._framework(version, engine)
        model = self.cache.ready((version.sha256, framework))
        return None if model is None else Served(version, framework, model)

    async def _found(self, reference: str, engine: str) -> Served:
        generation = self._generation
        version = await run_sync(self._resolved, reference)
        if not version.serving:
            self._drop(version)
            raise Unavailable(
                f"Model {version.name!r} was unloaded. POST /v2/repository/models/{version.name}/load brings it back.",
                code="model_unloaded",
            )
        if generation == self._generation:  # else it may have changed while it was looked up
            if len(self._versions) >= MOST_REFERENCES:
                self._versions.clear()
            self._versions[reference] = version
        framework = self._framework(version, engine)
        model = await self.cache.get(version.sha256, framework, version.size_bytes)
        if engine == "auto" and self._settings.measure_engines:
            self._weigh(version)
        return Served(version, framework, model)

    async def load(self, name: str) -> None:
        """Let a model answer from now on, and have it in memory. Raises NotFound, Unavailable, CorruptArtifact."""
        await run_sync(registry.set_serving, self._database, name, True)
        await self._found(name, "auto")

    async def unload(self, name: str) -> None:
        """Let a model answer no more, and free its memory; what is being computed is answered still. Other processes
        free theirs when they are asked for it. Raises NotFound."""
        model = await run_sync(registry.set_serving, self._database, name, False)
        for version in model.versions:
            self._drop(version)

    def _drop(self, version: ModelVersion) -> None:
        for framework in FRAMEWORKS:
            self.cache.drop((version.sha256, framework))

    async def verdict(self, version: ModelVersion) -> Verdict:
        """Which engine `auto` takes for this version, measured now if it is not known yet.

        Raises Unavailable, CorruptArtifact.
        """
        return await asyncio.shield(self._weigh(version))

    def _weigh(self, version: ModelVersion) -> asyncio.Task[Verdict]:
        """Measure the engines, once for each model."""
        task = self._verdicts.get(version.sha256)
        if task is None:
            if len(self._verdicts) >= MOST_REFERENCES:
                self._verdicts.clear()
            task = self._verdicts[version.sha256] = asyncio.create_task(self._weighed(version))
            task.add_done_callback(lambda task: self._settle(version, task))
        return task

    def _settle(self, version: ModelVersion, task: asyncio.Task[Verdict]) -> None:
        """What failed is tried again when it is asked for the next time."""
        if task.cancelled() or task.exception() is not None:
            self._verdicts.pop(version.sha256, None)
            if not task.cancelled():
                log.warning("engines_not_measured", model=version.name, error=str(task.exception()))
        else:
            found = task.result()
            log.info("engine_chosen", model=version.name, version=version.version, reason=found.reason)

    async def _weighed(self, version: ModelVersion) -> Verdict:
        reference = version.framework or FRAMEWORKS[0]
        before = self.cache.loaded(version.sha256)
        models = {name: await self.cache.get(version.sha256, name, version.size_bytes) for name in FRAMEWORKS}
        x = samples(np.random.default_rng(0), models[reference].card, max(BATCHES))

        def measured() -> dict[Framework, Evidence]:
            expected = models[reference].predictor.logits(x)
            return {name: measure(model.predictor, x, expected) for name, model in models.items()}

        loop = asyncio.get_running_loop()
        found = verdict(await loop.run_in_executor(self._warmers, measured), reference)
        for name in FRAMEWORKS:
            if name != found.choice and name not in before:
                self.cache.drop((version.sha256, name))
        return found

    def _resolved(self, reference: str) -> ModelVersion:
        try:
            return registry.resolve(self._database, reference)
        except NotFound as error:
            raise NotFound(error.detail, pointer="/model", code="unknown_model") from None

    def _framework(self, version: ModelVersion, asked: str) -> Framework:
        """`auto` is the engine that was measured to be the fastest. Until that is known it is one that is ready, so
        that nobody waits; of two, the one that trained it, or torch."""
        match asked:
            case "torch" | "jax":
                return asked
        weighed = self._verdicts.get(version.sha256)
        if weighed is not None and weighed.done() and not weighed.cancelled() and not weighed.exception():
            return weighed.result().choice
        ready, usual = self.cache.loaded(version.sha256), version.framework or FRAMEWORKS[0]
        return usual if usual in ready or not ready else ready[0]

    def _load(self, sha256: str, framework: Framework) -> LoadedModel:
        """Raises CorruptArtifact when the stored file is gone, is not what its name says, or is no model."""
        try:
            file = read_weights(self._store.verify(sha256))
        except NotFound as error:
            raise CorruptArtifact(f"The model's weights are lost: {error.detail}") from error
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        device = self._settings.serving_device
        predictor = engine.load(framework).predictor(definition, file.weights, device=device)
        pool = None if _seconds(card, predictor) < INLINE_S else self._pool
        limits = Limits(self._settings.max_batch_rows, self._settings.max_waiting_predictions)
        raw, normalised = (
            Batcher(predictor.logits, limits, pool=pool, join=_join(card.signature.input)) for _ in range(2)
        )
        self._warmers.submit(predictor.warm_up, card.preprocessing.example(), self._settings.max_batch_rows)
        return LoadedModel(card, predictor, raw, normalised)


async def _while_there(
    batcher: Batcher, waiting: asyncio.Future[Computed], receive: Receive
) -> Computed | None:
    """What is waited for; None when the client goes first, whose place in the queue is given up then."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        gone.cancel()
        if not waiting.done():
            batcher.give_up(waiting)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _seconds(card: ModelCard, predictor: Predictor) -> float:
    """How long a small batch takes, once everything is compiled."""
    x = np.stack([card.preprocessing.example()] * PROBE_ROWS)
    predictor.logits(x[:1])
    predictor.logits(x)
    found = []
    for _ in range(3):
        began = perf_counter()
        predictor.logits(x)
        found.append(perf_counter() - began)
    return min(found)


def _join(input: Input) -> Join:
    """Texts of different widths are filled up to the widest; everything else has one shape."""
    if not isinstance(input, TokenInput):
        return np.concatenate
    padding = input.padding

    def join(parts: Sequence[np.ndarray]) -> np.ndarray:
        rows, width = sum(map(len, parts)), max(part.shape[1] for part in parts)
        together = np.full((rows, width), padding, parts[0].dtype)
        start = 0
        for part in parts:
            together[start : start + len(part), : part.shape[1]] = part
            start += len(part)
        return together

    return join
