"""Which engine serves a version, and in which precision: by what was measured on this machine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
import structlog
from anyio.to_thread import run_sync

from app.prediction.cache import Key, LoadedModel, ModelCache, Variant
from app.prediction.evidence import BATCHES, Evidence, Verdict, measure, verdict
from app.prediction.kept_verdicts import KeptVerdicts
from app.prediction.precision import kept_labels
from app.schemas.predictions import Engine
from models import engine
from models.data.dataset import Split
from models.errors import (
    CorruptArtifact,
    EngineUnavailable,
    InvalidInput,
    NotFound,
    NotInstalled,
    NotSupported,
    Unavailable,
)
from models.exports.checking import samples
from models.framework import ENGINES, FRAMEWORKS, EngineName
from models.preparation import raw_batches
from models.serving import LEAST_AGREEMENT, Serving, ServingPrecision
from workers import datasets, registry
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.registry import ModelVersion
from workers.settings import Settings

MOST_VERDICTS = 4096

log = structlog.get_logger("app.prediction")


class EngineChoice:
    """Used on the event loop; what is measured runs in `warmers`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ArtifactStore,
        cache: ModelCache,
        warmers: Executor,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._cache = cache
        self._warmers = warmers
        self._kept = KeptVerdicts(settings)
        self._verdicts: dict[tuple[str, str], asyncio.Task[Verdict]] = {}

    def key(self, version: ModelVersion, asked: Engine) -> Key:
        """`auto` is the engine that was measured to be the fastest. Until that is known it is one that is ready, so
        that nobody waits; of several, the one that trained it, or torch."""
        if asked != "auto":
            return version.sha256, _variant(version, asked)
        if (choice := self.known(version)) is not None:
            return version.sha256, _variant(version, choice)
        loaded = self._cache.loaded(version.sha256)
        ready = [one.engine for one in loaded if one == _variant(version, one.engine)]
        usual: EngineName = version.framework or FRAMEWORKS[0]
        return version.sha256, _variant(version, usual if usual in ready or not ready else ready[0])

    def reference(self, version: ModelVersion) -> Variant:
        """What the others are compared with."""
        return Variant(version.framework or FRAMEWORKS[0])

    async def forget(self, version: ModelVersion) -> None:
        """What was measured holds no longer."""
        self._verdicts.pop(_weighing(version), None)
        await run_sync(self._kept.forget, _weighing(version))

    def known(self, version: ModelVersion) -> EngineName | None:
        """The fastest engine, once it is known."""
        weighed = self._verdicts.get(_weighing(version))
        if weighed is None or not weighed.done() or weighed.cancelled() or weighed.exception():
            return None
        return weighed.result().choice

    async def verdict(self, version: ModelVersion) -> Verdict:
        """Which engine `auto` takes for this version, measured now if it is not known yet.

        Raises Unavailable, CorruptArtifact.
        """
        if not version.enabled:
            raise unloaded(version)
        await self.recall(version)
        return await asyncio.shield(self.weigh(version))

    async def recall(self, version: ModelVersion) -> None:
        """Know what was measured before, by this process or another."""
        key = _weighing(version)
        if key not in self._verdicts and (kept := await run_sync(self._kept.read, key)) is not None:
            found = self._verdicts.setdefault(key, asyncio.create_task(_the(kept)))
            await asyncio.shield(found)

    def weigh(self, version: ModelVersion) -> asyncio.Task[Verdict]:
        """Measure the engines, once for each model."""
        key = _weighing(version)
        task = self._verdicts.get(key)
        if task is None:
            if len(self._verdicts) >= MOST_VERDICTS:
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
        key = _weighing(version)
        async with self._kept.alone():
            found = await run_sync(self._kept.read, key)
            if found is None:
                found, is_lasting = await self._measured(version)
                if is_lasting:
                    await run_sync(self._kept.write, key, found)
        return found

    async def _measured(self, version: ModelVersion) -> tuple[Verdict, bool]:
        """And whether it will hold for the next start."""
        reference = version.framework or FRAMEWORKS[0]
        before = self._cache.loaded(version.sha256)
        exact = await self._cache.get(version.sha256, Variant(reference), version.size_bytes)
        models, unusable, is_lasting = await self._variants(version, version.serving.on)
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
            self._cache.drop((version.sha256, one))
        return found, is_lasting

    async def _variants(
        self, version: ModelVersion, precision: Callable[[EngineName], ServingPrecision]
    ) -> tuple[dict[Variant, LoadedModel], dict[EngineName, str], bool]:
        """The model on every engine that is installed and can run it, why others cannot, and whether that will be so
        the next time."""
        found: dict[Variant, LoadedModel] = {}
        unusable: dict[EngineName, str] = {}
        is_lasting = True
        for name in filter(engine.is_installed, ENGINES):
            one = Variant(name, precision(name))
            try:
                found[one] = await self._cache.get(version.sha256, one, version.size_bytes)
            except (NotSupported, NotInstalled, EngineUnavailable) as error:
                unusable[name] = error.detail
                is_lasting = is_lasting and not isinstance(error, EngineUnavailable)
            except Exception as error:
                if is_of_the_model(error):
                    raise
                unusable[name] = f"{type(error).__name__}: {error}"
        return found, unusable, is_lasting

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
        before = self._cache.loaded(version.sha256)
        exact = await self._cache.get(version.sha256, reference, version.size_bytes)
        models, unusable, _ = await self._variants(version, lambda _: precision)
        if not models:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in unusable.items())
            raise InvalidInput(
                f"No engine computes it in {precision}. {reasons}", pointer="/serving/precision"
            )
        predictors = {one.engine: model.predictor for one, model in models.items()}

        def measured() -> dict[EngineName, float]:
            rows = raw_batches(split, exact.card.preprocessing, self._settings.max_batch_rows)
            return kept_labels(exact.predictor, predictors, rows)

        found = await asyncio.get_running_loop().run_in_executor(self._warmers, measured)
        for one in {*models, reference}.difference(before):
            self._cache.drop((version.sha256, one))
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


def _variant(version: ModelVersion, name: EngineName) -> Variant:
    return Variant(name, version.serving.on(name))


def is_of_the_model(error: Exception) -> bool:
    """Whether the model cannot be loaded, whatever the engine; if not, others may serve it."""
    return isinstance(error, Unavailable | CorruptArtifact) and not isinstance(error, EngineUnavailable)


async def _the(verdict: Verdict) -> Verdict:
    return verdict


def unloaded(version: ModelVersion) -> Unavailable:
    return Unavailable(
        f"Model {version.name!r} was unloaded. POST /v2/repository/models/{version.name}/load brings it back.",
        code="model_unloaded",
    )


def _weighing(version: ModelVersion) -> tuple[str, str]:
    """What a verdict is kept under: another precision wants another."""
    return version.sha256, version.serving.model_dump_json()
