"""The models in memory: loaded once however many ask, the least recently used make room for others."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.prediction.batching import Batcher
from models.engine import Predictor, is_normalised
from models.errors import Unavailable
from models.framework import EngineName
from models.serving import ServingPrecision
from models.weights import ModelCard


class Variant(NamedTuple):
    """What computes a model, and in which precision."""

    engine: EngineName
    precision: ServingPrecision = "float32"


Key = tuple[str, Variant]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to compute in one variant, with the queues for it: of raw samples, and of images that come
    normalised. Whoever holds it may use it, in the cache or not."""

    card: ModelCard
    predictor: Predictor
    raw: Batcher
    normalised: Batcher

    def queue(self, x: np.ndarray) -> Batcher:
        """Where samples like these wait: see `models.engine.Predictor.logits`."""
        return self.normalised if is_normalised(x, self.card.signature.input) else self.raw


class Held(NamedTuple):
    """A model in memory: its weights' hash, what computes it, and the bytes that it is counted with."""

    sha256: str
    engine: EngineName
    precision: ServingPrecision
    size_bytes: int


@dataclass(frozen=True)
class Entry:
    size_bytes: int
    loading: asyncio.Task[LoadedModel]


class ModelCache:
    """Loaded models by the hash of their weights and the variant. Used on the event loop only.

    `load` reads and checks one, in `executor`; it may raise. `max_bytes` bounds the weights, of models being loaded
    too. What is `pinned` makes no room for others.
    """

    def __init__(
        self, load: Callable[[str, Variant], LoadedModel], executor: Executor, max_bytes: int
    ) -> None:
        self.load = load
        self._executor = executor
        self._max_bytes = max_bytes
        self.pinned: frozenset[Key] = frozenset()
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._counts = {"hits": 0, "loads": 0, "evictions": 0, "failures": 0}

    async def get(self, sha256: str, variant: Variant, size_bytes: int) -> LoadedModel:
        """The model, loaded now if it is not yet. Raises Unavailable, CorruptArtifact, NotFound, and what loading this
        variant raises."""
        key = (sha256, variant)
        if (ready := self.ready(key)) is not None:
            return ready
        entry = await self._entry(key, size_bytes)
        # Shielded: the one who asked first may go away, the others go on waiting.
        return await asyncio.shield(entry.loading)

    def ready(self, key: Key) -> LoadedModel | None:
        """The model if it is loaded; used just now, it is the last to make room."""
        entry = self._entries.get(key)
        if entry is None or not _succeeded(entry.loading):
            return None
        self._counts["hits"] += 1
        self._entries.move_to_end(key)
        return entry.loading.result()

    def drop(self, key: Key) -> None:
        """Make room; whoever uses it now goes on."""
        if (entry := self._entries.get(key)) is not None and entry.loading.done():
            del self._entries[key]

    def loaded(self, sha256: str) -> tuple[Variant, ...]:
        """The variants of this model that are ready, the one used last at the end."""
        return tuple(
            variant
            for (name, variant), entry in self._entries.items()
            if name == sha256 and _succeeded(entry.loading)
        )

    @property
    def hashes(self) -> frozenset[str]:
        """Of the models that are here or being loaded."""
        return frozenset(sha256 for sha256, _ in self._entries)

    def drop_all(self, hashes: Set[str]) -> None:
        """As `drop`, the models with these hashes."""
        for key in [key for key in self._entries if key[0] in hashes]:
            self.drop(key)

    def held(self) -> list[Held]:
        """What is loaded."""
        return [
            Held(sha256, variant.engine, variant.precision, entry.size_bytes)
            for (sha256, variant), entry in self._entries.items()
            if _succeeded(entry.loading)
        ]

    def state(self) -> Mapping[str, float]:
        """For the metrics."""
        used = sum(entry.size_bytes for entry in self._entries.values())
        return {"models": len(self._entries), "bytes": used, "max_bytes": self._max_bytes, **self._counts}

    async def _entry(self, key: Key, size_bytes: int) -> Entry:
        """The model, being loaded at least; whoever finds no room waits while others are, for those make room then."""
        while True:
            if (entry := self._entries.get(key)) is not None:
                return entry
            if self._make_room(size_bytes):
                return self._begin(key, size_bytes)
            loading = [entry.loading for entry in self._entries.values() if not entry.loading.done()]
            if not loading:
                raise Unavailable(
                    "The memory for models is taken by those that are pinned (TANDEM_MODEL_CACHE_BYTES).",
                    code="model_cache_full",
                )
            await asyncio.wait(loading, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, key: Key, size_bytes: int) -> Entry:
        self._counts["loads"] += 1
        entry = Entry(size_bytes, asyncio.create_task(self._loading(key)))
        self._entries[key] = entry
        entry.loading.add_done_callback(lambda task: self._settle(key, task))
        return entry

    async def _loading(self, key: Key) -> LoadedModel:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.load, *key)

    def _settle(self, key: Key, task: asyncio.Task[LoadedModel]) -> None:
        """A load that failed leaves no trace: the next request tries again."""
        if not _succeeded(task):
            self._counts["failures"] += 1
            entry = self._entries.get(key)
            if entry is not None and entry.loading is task:
                del self._entries[key]

    def _make_room(self, size_bytes: int) -> bool:
        """Whether there is room now. Raises Unavailable when there never will be."""
        if size_bytes > self._max_bytes:
            raise Unavailable(
                f"The model has {size_bytes} bytes, more than the {self._max_bytes} for models in memory"
                " (TANDEM_MODEL_CACHE_BYTES).",
                code="model_too_large",
            )
        free = self._max_bytes - sum(entry.size_bytes for entry in self._entries.values())
        idle = [
            (key, entry)
            for key, entry in self._entries.items()
            if entry.loading.done() and key not in self.pinned
        ]
        if free + sum(entry.size_bytes for _, entry in idle) < size_bytes:
            return False
        for key, entry in idle:
            if free >= size_bytes:
                break
            del self._entries[key]
            self._counts["evictions"] += 1
            free += entry.size_bytes
        return True


def _succeeded(task: asyncio.Task[LoadedModel]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
