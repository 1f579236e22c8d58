"""Answers predictions: which version, which engine, then a batch with whoever else asks the same model."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import structlog
from anyio.to_thread import run_sync
from starlette.types import Receive

from app.metrics import Metrics
from app.prediction.batching import Batcher, Computed, Join, Limits, RunnerPool
from app.prediction.cache import Key, LoadedModel, ModelCache, Variant
from app.prediction.evidence import BATCHES, Evidence, Verdict, measure, verdict
from app.prediction.precision import kept_labels
from app.prediction.query import Query, Reply, Served
from app.prediction.statistics import Statistics
from app.schemas.predictions import Engine
from models import engine
from models.data.dataset import Split
from models.engine import Definition, Predictor
from models.errors import CorruptArtifact, InvalidInput, NotFound, NotInstalled, NotSupported, Unavailable
from models.exports.checking import samples
from models.framework import ENGINES, FRAMEWORKS, EngineName
from models.preparation import raw_batches
from models.serving import LEAST_AGREEMENT, Serving, ServingPrecision
from models.signature import Input, TokenInput
from models.weights import ModelCard, read_weights
from workers import datasets, registry
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
        self._known: dict[tuple[str, Engine], tuple[ModelVersion, Key]] = {}
        self._verdicts: dict[tuple[str, str], asyncio.Task[Verdict]] = {}
        self._generation = 0
        self._looked = False
        self._imported: set[EngineName] = set()
        self.statistics = Statistics()
        self.cache = ModelCache(self._load, self._loaders, settings.model_cache_bytes)
        metrics.watch_model_cache(self.cache.state)

    def close(self) -> None:
        gc.unfreeze()  # libraries count what is left of theirs when the process ends
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
            self._metrics.observe_failure(served.version.name, served.engine)
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
        patience_s = self._settings.predict_timeout_s
        if query.timeout_s is not None:
            patience_s = min(patience_s, query.timeout_s)
        waiting = queue.submit(x, began + patience_s)
        computed = await (waiting if queue.is_inline else _while_there(queue, waiting, receive))
        if computed is None:
            return None
        start = perf_counter()
        found = query.write(served, computed)
        end = perf_counter()
        name, output_s = served.version.name, end - start
        self._metrics.observe_prediction(name, served.engine, computed, input_s, output_s)
        self.statistics.succeeded(
            name, served.version.version, computed, input_s, output_s, total_s=end - began
        )
        return found

    def at_hand(self, reference: str, engine: Engine) -> Served | None:
        """What a reference means and its model, if both are known and nothing has changed since."""
        if not self._looked:
            self._look()
        known = self._known.get((reference, engine))
        if known is not None:
            version, key = known
        elif (found := self._versions.get(reference)) is None:
            return None
        else:
            version, key = found, self._key(found, engine)
            if engine != "auto" or self._weighed_choice(version) is not None:  # else it may change
                self._known[reference, engine] = version, key
        model = self.cache.ready(key)
        return None if model is None else Served(version, key[1].engine, model)

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

    async def _found(self, reference: str, engine: Engine) -> Served:
        generation = self._generation
        version = await run_sync(self._resolved, reference)
        if not version.enabled:
            self._drop(version)
            raise Unavailable(
                f"Model {version.name!r} was unloaded. POST /v2/repository/models/{version.name}/load brings it back.",
                code="model_unloaded",
            )
        if generation == self._generation:  # else it may have changed while it was looked up
            if len(self._versions) >= MOST_REFERENCES:
                self._versions.clear()
                self._known.clear()
            self._versions[reference] = version
        _, variant = self._key(version, engine)
        model = await self.cache.get(version.sha256, variant, version.size_bytes)
        if engine == "auto" and self._settings.measure_engines:
            self._weigh(version)
        return Served(version, variant.engine, model)

    async def load(self, name: str) -> None:
        """Let a model answer from now on, and have it in memory. Raises NotFound, Unavailable, CorruptArtifact."""
        await run_sync(registry.set_enabled, self._database, name, True)
        await self._found(name, "auto")

    async def unload(self, name: str) -> None:
        """Let a model answer no more, and free its memory; what is being computed is answered still. Other processes
        free theirs when they are asked for it. Raises NotFound."""
        model = await run_sync(registry.set_enabled, self._database, name, False)
        for version in model.versions:
            self._drop(version)

    def _drop(self, version: ModelVersion) -> None:
        for variant in self.cache.loaded(version.sha256):
            self.cache.drop((version.sha256, variant))

    async def verdict(self, version: ModelVersion) -> Verdict:
        """Which engine `auto` takes for this version, measured now if it is not known yet.

        Raises Unavailable, CorruptArtifact.
        """
        return await asyncio.shield(self._weigh(version))

    def _weigh(self, version: ModelVersion) -> asyncio.Task[Verdict]:
        """Measure the engines, once for each model."""
        key = _weighing(version)
        task = self._verdicts.get(key)
        if task is None:
            if len(self._verdicts) >= MOST_REFERENCES:
                self._verdicts.clear()
            task = self._verdicts[key] = asyncio.create_task(self._weighed(version))
            task.add_done_callback(lambda task: self._settle(version, task))
        return task

    def _settle(self, version: ModelVersion, task: asyncio.Task[Verdict]) -> None:
        """What failed is tried again when it is asked for the next time."""
        if task.cancelled() or task.exception() is not None:
            self._verdicts.pop(_weighing(version), None)
            if not task.cancelled():
                log.warning("engines_not_measured", model=version.name, error=str(task.exception()))
        else:
            found = task.result()
            log.info("engine_chosen", model=version.name, version=version.version, reason=found.reason)

    async def _weighed(self, version: ModelVersion) -> Verdict:
        reference = version.framework or FRAMEWORKS[0]
        before = self.cache.loaded(version.sha256)
        exact = await self.cache.get(version.sha256, Variant(reference), version.size_bytes)
        models, unusable = await self._variants(version, version.serving.on)
        x = samples(np.random.default_rng(0), exact.card, max(BATCHES))

        def measured() -> dict[EngineName, Evidence]:
            expected = exact.predictor.logits(x)
            agreement = version.serving.agreement
            return {
                one.engine: measure(
                    model.predictor,
                    x,
                    expected,
                    one.precision,
                    None if one.precision == "float32" else agreement[one.engine],
                )
                for one, model in models.items()
            }

        loop = asyncio.get_running_loop()
        found = verdict(await loop.run_in_executor(self._warmers, measured), reference, unusable)
        kept = {*before, _variant(version, found.choice)}
        for one in {*models, Variant(reference)} - kept:
            self.cache.drop((version.sha256, one))
        return found

    async def _variants(
        self, version: ModelVersion, precision: Callable[[EngineName], ServingPrecision]
    ) -> tuple[dict[Variant, LoadedModel], dict[EngineName, str]]:
        """The model on every engine that is installed and can run it, and why others cannot."""
        found: dict[Variant, LoadedModel] = {}
        unusable: dict[EngineName, str] = {}
        for name in filter(engine.is_installed, ENGINES):
            one = Variant(name, precision(name))
            try:
                found[one] = await self.cache.get(version.sha256, one, version.size_bytes)
            except (NotSupported, NotInstalled) as error:
                unusable[name] = error.detail
        return found, unusable

    async def set_precision(self, version: ModelVersion, precision: ServingPrecision) -> ModelVersion:
        """Compute a version in this precision from now on, on each engine that keeps enough labels of its validation
        split in it.

        Raises NotFound, InvalidInput where none does or that cannot be known, Unavailable, CorruptArtifact.
        """
        serving = Serving()
        if precision != "float32":
            serving = Serving(precision=precision, agreement=await self._agreement(version, precision))
        return await run_sync(registry.set_serving, self._database, version.name, version.version, serving)

    async def _agreement(self, version: ModelVersion, precision: ServingPrecision) -> dict[EngineName, float]:
        split = await run_sync(self._validation, version)
        reference = Variant(version.framework or FRAMEWORKS[0])
        before = self.cache.loaded(version.sha256)
        exact = await self.cache.get(version.sha256, reference, version.size_bytes)
        models, _ = await self._variants(version, lambda _: precision)
        predictors = {one.engine: model.predictor for one, model in models.items()}

        def measured() -> dict[EngineName, float]:
            rows = raw_batches(split, exact.card.preprocessing, self._settings.max_batch_rows)
            return kept_labels(exact.predictor, predictors, rows)

        found = await asyncio.get_running_loop().run_in_executor(self._warmers, measured)
        for one in {*models, reference}.difference(before):
            self.cache.drop((version.sha256, one))
        if max(found.values()) < LEAST_AGREEMENT:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
            raise InvalidInput(
                f"In {precision} too few labels of the validation split stay what they are in float32: {shares}; at"
                f" least {LEAST_AGREEMENT:.1%} must. Nothing was changed.",
                pointer="/serving/precision",
                code="labels_differ",
            )
        return found

    def _validation(self, version: ModelVersion) -> Split:
        """The validation split of the dataset that a version was trained on. Raises InvalidInput where there is none
        to compare labels on."""
        if version.signature.is_regression:
            problem = "It predicts a number, and has no labels to compare"
        elif version.dataset_id is None:
            problem = "It was imported, and has no validation split to compare labels on"
        else:
            try:
                record = datasets.get(self._database, version.dataset_id)
                return datasets.samples(self._store, record).validation
            except NotFound:
                problem = "Its dataset was deleted, and with it the validation split to compare labels on"
        raise InvalidInput(f"{problem}: it is served in float32.", pointer="/serving/precision")

    def _resolved(self, reference: str) -> ModelVersion:
        try:
            return registry.resolve(self._database, reference)
        except NotFound as error:
            raise NotFound(error.detail, pointer="/model", code="unknown_model") from None

    def _key(self, version: ModelVersion, asked: Engine) -> Key:
        """`auto` is the engine that was measured to be the fastest. Until that is known it is one that is ready, so
        that nobody waits; of several, the one that trained it, or torch."""
        if asked != "auto":
            return version.sha256, _variant(version, asked)
        if (choice := self._weighed_choice(version)) is not None:
            return version.sha256, _variant(version, choice)
        loaded = self.cache.loaded(version.sha256)
        ready = [one.engine for one in loaded if one == _variant(version, one.engine)]
        usual: EngineName = version.framework or FRAMEWORKS[0]
        return version.sha256, _variant(version, usual if usual in ready or not ready else ready[0])

    def _weighed_choice(self, version: ModelVersion) -> EngineName | None:
        """The fastest engine, once it is known."""
        weighed = self._verdicts.get(_weighing(version))
        if weighed is None or not weighed.done() or weighed.cancelled() or weighed.exception():
            return None
        return weighed.result().choice

    def _load(self, sha256: str, variant: Variant) -> LoadedModel:
        """Raises CorruptArtifact when the stored file is gone, is not what its name says, or is no model; NotInstalled;
        NotSupported where the engine cannot run the network."""
        try:
            file = read_weights(self._store.verify(sha256))
        except NotFound as error:
            raise CorruptArtifact(f"The model's weights are lost: {error.detail}") from error
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        device = self._settings.serving_device
        server = engine.load_server(variant.engine)
        predictor = server.predictor(definition, file.weights, device=device, precision=variant.precision)
        pool = None if _seconds(card, predictor) < INLINE_S else self._pool
        if variant.engine not in self._imported:
            # What a framework brings stays; going through it would stop the garbage collector, and so everything, for
            # a fifth of a second each time.
            self._imported.add(variant.engine)
            gc.collect()  # what is garbage now would stay too
            gc.freeze()
        limits = Limits(self._settings.max_batch_rows, self._settings.max_waiting_predictions)
        join = _join(card.signature.input)
        raw = Batcher(predictor.logits, limits, pool=pool, join=join)
        # Never on the event loop: batches of them are compiled as they come.
        normalised = Batcher(predictor.logits, limits, pool=self._pool, join=join)
        self._warmers.submit(predictor.warm_up, card.preprocessing.example(), self._settings.max_batch_rows)
        return LoadedModel(card, predictor, raw, normalised)


def _variant(version: ModelVersion, name: EngineName) -> Variant:
    return Variant(name, version.serving.on(name))


def _weighing(version: ModelVersion) -> tuple[str, str]:
    """What a verdict is kept under: another precision wants another."""
    return version.sha256, version.serving.model_dump_json()


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
