"""From stored weights to a model that computes: read, checked, given to an engine, and put behind queues."""

import gc
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from time import perf_counter

import numpy as np

from app.prediction.batching import Batcher, Join, Limits, RunnerPool
from app.prediction.cache import LoadedModel, Variant
from models import engine
from models.engine import Definition, Predictor
from models.errors import CorruptArtifact, NotFound
from models.kept_files import KeptFiles
from models.makers import makers
from models.serving import ModelServing
from models.signature import Input, TokenInput
from models.weights import ModelCard, read_weights
from workers.artifacts import ArtifactStore
from workers.settings import Settings
from workers.trainer_environment import default_threads

INLINE_S = 0.0005
"""A model that computes `PROBE_ROWS` faster than this is computed on the event loop: a thread would take longer to
wake."""
PROBE_ROWS = 8


class Loader:
    """Loads models, in any thread; what is compiled for later batches is so in `warmers`."""

    def __init__(self, settings: Settings, store: ArtifactStore, pool: RunnerPool, warmers: Executor) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._warmers = warmers
        self._cores = default_threads(settings.processes)
        self._kept = KeptFiles(settings.cache_dir / "graphs", settings.graph_cache_bytes)
        makers()  # of the files that are there now

    def __call__(self, sha256: str, variant: Variant) -> LoadedModel:
        """Raises CorruptArtifact when the stored file is gone, is not what its name says, or is no model; NotInstalled;
        NotSupported where the engine cannot run the network."""
        try:
            file = read_weights(self._store.verify(sha256))
        except NotFound as error:
            raise CorruptArtifact(f"The model's weights are lost: {error.detail}") from error
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        device = self._settings.serving_device
        with _without_collections():
            server = engine.load_server(variant.engine)
            predictor = server.predictor(
                definition,
                file.weights,
                device=device,
                precision=variant.precision,
                kept=self._kept,
                cores=self._cores,
            )
            pool = None if _seconds(card, predictor) < INLINE_S else self._pool
        limits = limits_of(ModelServing(), self._settings)
        join = _join(card.signature.input)
        raw = Batcher(predictor.logits, limits, pool=pool, join=join)
        # Never on the event loop: batches of them are compiled as they come.
        normalised = Batcher(predictor.logits, limits, pool=self._pool, join=join)
        self._warmers.submit(predictor.warm_up, card.preprocessing.example(), self._settings.max_batch_rows)
        return LoadedModel(card, predictor, raw, normalised)


@contextmanager
def _without_collections() -> Iterator[None]:
    """What a framework brings when it is first used stays, and each time that the garbage collector went through it,
    everything would stand still for a fifth of a second."""
    modules = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        gc.enable()


def limits_of(serving: ModelServing, settings: Settings) -> Limits:
    """The model's own, else the server's."""
    return Limits(
        rows=serving.max_batch_rows or settings.max_batch_rows,
        waiting=serving.max_waiting_predictions or settings.max_waiting_predictions,
    )


def _seconds(card: ModelCard, predictor: Predictor) -> float:
    """How long a small batch takes, once everything is compiled; of a network that is slow for a single input already,
    how long that takes."""
    one = np.stack([card.preprocessing.example()])
    single = _quickest(predictor, one)
    return single if single > INLINE_S else _quickest(predictor, one.repeat(PROBE_ROWS, axis=0))


def _quickest(predictor: Predictor, x: np.ndarray) -> float:
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
