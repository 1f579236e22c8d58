"""Answers predictions: which version, which engine, then computing in a few threads of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from anyio.to_thread import run_sync

from app.metrics import Metrics
from app.prediction.answers import predictions
from app.prediction.cache import LoadedModel, ModelCache
from app.prediction.parsing import PredictionRequest
from models import engine
from models.engine import Definition
from models.errors import CorruptArtifact, NotFound, Unavailable
from models.framework import FRAMEWORKS, Framework
from models.weights import read_weights
from workers import registry
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.registry import ModelVersion
from workers.settings import Settings


@dataclass(frozen=True)
class Computed:
    """The predictions of one batch and where the time went."""

    predictions: list[dict[str, Any]]
    queue_s: float
    compute_s: float


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
        self.computers = ThreadPoolExecutor(settings.serving_threads, "predictor")
        self._waiting = 0
        self.cache = ModelCache(self._load, self._loaders, settings.model_cache_bytes)
        metrics.watch_model_cache(self.cache.state)

    def close(self) -> None:
        self._loaders.shutdown(cancel_futures=True)
        self.computers.shutdown(cancel_futures=True)

    async def predict(self, request: PredictionRequest) -> dict[str, Any]:
        """The answer, in the shape of `schemas.predictions.Predictions`.

        Raises NotFound, InvalidInput, Unavailable, CorruptArtifact.
        """
        version = await run_sync(self._version, request.asked.model)
        framework = self._framework(version, request.asked.engine)
        model = await self.cache.get(version.sha256, framework, version.size_bytes)
        computed = await self._in_turn(model, request)
        self._metrics.observe_prediction(
            version.name,
            framework,
            items=len(request.items),
            queue_s=computed.queue_s,
            compute_s=computed.compute_s,
        )
        return _answer(version, framework, computed)

    def _version(self, reference: str) -> ModelVersion:
        """Asked of the database every time: a moved alias or a deleted model counts from the next request on."""
        try:
            return registry.resolve(self._database, reference)
        except NotFound as error:
            raise NotFound(error.detail, pointer="/model", code="unknown_model") from None

    def _framework(self, version: ModelVersion, asked: str) -> Framework:
        """`auto` is the engine that is ready, so that nobody waits; of two, the one that trained it, or torch."""
        match asked:
            case "torch" | "jax":
                return asked
        ready, usual = self.cache.loaded(version.sha256), version.framework or FRAMEWORKS[0]
        return usual if usual in ready or not ready else ready[0]

    async def _in_turn(self, model: LoadedModel, request: PredictionRequest) -> Computed:
        if self._waiting >= self._settings.max_waiting_predictions:
            raise Unavailable(
                f"{self._waiting} predictions wait already. Try again shortly.", code="too_many_predictions"
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.computers, _compute, model, request, perf_counter())
        finally:
            self._waiting -= 1

    def _load(self, sha256: str, framework: Framework) -> LoadedModel:
        """Raises CorruptArtifact when the stored file is gone, is not what its name says, or is no model."""
        try:
            file = read_weights(self._store.verify(sha256))
        except NotFound as error:
            raise CorruptArtifact(f"The model's weights are lost: {error.detail}") from error
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        device = self._settings.serving_device
        return LoadedModel(card, engine.load(framework).predictor(definition, file.weights, device=device))


def _compute(model: LoadedModel, request: PredictionRequest, queued_at: float) -> Computed:
    began = perf_counter()
    x = model.card.preprocessing.batch(request.items)
    logits = model.predictor.logits(x)
    found = predictions(logits, model.card, request.asked)
    return Computed(found, began - queued_at, perf_counter() - began)


def _answer(version: ModelVersion, framework: Framework, computed: Computed) -> dict[str, Any]:
    return {
        "model": {"name": version.name, "version": version.version, "framework": version.framework},
        "engine": framework,
        "predictions": computed.predictions,
        "timing": {
            "queue_ms": computed.queue_s * 1000,
            "compute_ms": computed.compute_s * 1000,
            "batch_size": len(computed.predictions),
        },
    }
