"""The model cache: one load for all who wait, bounded memory, and no trace of what failed."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.prediction.batching import Batcher, Limits
from app.prediction.cache import LoadedModel, ModelCache, Variant
from models.data.builtin import BUILTIN
from models.errors import CorruptArtifact, Unavailable
from models.linear.spec import LinearSpec
from models.preprocessing import ImagePreprocessing
from models.weights import ModelCard

TORCH, JAX = Variant("torch"), Variant("jax")
CARD = ModelCard(
    model=LinearSpec(),
    signature=BUILTIN["digits"].description.signature,
    preprocessing=ImagePreprocessing(height=8, width=8, channels=1, mean=(0.3,), std=(0.3,)),
    classes=None,
)


class Silent:
    """A predictor that says nothing: here only who is loaded counts."""

    device = "cpu"

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 10), np.float32)

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        pass


class Loader:
    """Notes what it loads. While `gate` is closed nothing gets through; names in `broken` fail."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, Variant]] = []
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, sha256: str, variant: Variant) -> LoadedModel:
        self.gate.wait(10)
        self.loaded.append((sha256, variant))
        if sha256 in self.broken:
            raise CorruptArtifact(f"{sha256} is damaged.")
        silent = Silent()
        queues = (Batcher(silent.logits, Limits(rows=8, waiting=8)) for _ in range(2))
        return LoadedModel(CARD, silent, *queues)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def cache(loader: Loader, executor: ThreadPoolExecutor) -> ModelCache:
    return ModelCache(loader, executor, max_bytes=100)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_whoever_comes_while_it_loads_waits_for_the_same_load(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        loader.gate.clear()
        waiting = [asyncio.create_task(cache.get("a", TORCH, 10)) for _ in range(20)]
        await asyncio.sleep(0)
        assert cache.loaded("a") == ()
        loader.gate.set()
        models = await asyncio.gather(*waiting)
        assert all(model is models[0] for model in models)
        assert cache.loaded("a") == (TORCH,)

    run(work())
    assert loader.loaded == [("a", TORCH)]


def test_one_who_gives_up_does_not_stop_the_load(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        loader.gate.clear()
        first = asyncio.create_task(cache.get("a", TORCH, 10))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.get("a", TORCH, 10))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        loader.gate.set()
        assert (await second).card is CARD

    run(work())
    assert len(loader.loaded) == 1


def test_a_failed_load_is_told_to_all_and_tried_again(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        loader.broken.add("a")
        results = await asyncio.gather(*(cache.get("a", TORCH, 10) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [CorruptArtifact] * 3
        assert cache.state()["models"] == 0
        loader.broken.clear()
        assert await cache.get("a", TORCH, 10)

    run(work())
    assert len(loader.loaded) == 2


def test_the_least_recently_used_makes_room(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        for name in ("a", "b", "c"):
            await cache.get(name, TORCH, 33)
        await cache.get("a", TORCH, 33)
        await cache.get("d", TORCH, 33)
        assert [name for name in "abcd" if cache.loaded(name)] == ["a", "c", "d"]
        state = cache.state()
        assert (state["models"], state["bytes"], state["evictions"]) == (3, 99, 1)
        await cache.get("b", TORCH, 33)

    run(work())
    assert [name for name, _ in loader.loaded] == ["a", "b", "c", "d", "b"]


def test_whoever_finds_no_room_waits_while_others_are_loaded(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        loader.gate.clear()
        loading = [asyncio.create_task(cache.get(name, TORCH, 50)) for name in ("a", "b", "c")]
        await asyncio.sleep(0.05)
        assert cache.state()["models"] == 2
        loader.gate.set()
        await asyncio.gather(*loading)
        assert cache.loaded("c") == (TORCH,)
        assert cache.state()["bytes"] == 100

    run(work())
    assert {name for name, _ in loader.loaded} == {"a", "b", "c"}


def test_pinned_models_stay_and_leave_no_room_where_they_take_it_all(cache: ModelCache) -> None:
    async def work() -> None:
        for name in ("a", "b", "c"):
            await cache.get(name, TORCH, 30)
        cache.pinned = frozenset({("a", TORCH), ("c", TORCH)})
        await cache.get("d", TORCH, 40)
        assert [name for name in "abcd" if cache.loaded(name)] == ["a", "c", "d"]
        with pytest.raises(Unavailable, match="pinned"):
            await cache.get("e", TORCH, 41)
        await cache.get("a", JAX, 40)  # another engine of a pinned model is not pinned
        assert cache.loaded("d") == ()
        await cache.get("d", TORCH, 40)
        assert cache.loaded("a") == (TORCH,)
        assert [name for name in "abcd" if cache.loaded(name)] == ["a", "c", "d"]

    run(work())


def test_only_as_many_go_as_are_in_the_way(cache: ModelCache) -> None:
    async def work() -> None:
        for name in ("a", "b", "c", "d"):
            await cache.get(name, TORCH, 25)
        await cache.get("e", TORCH, 40)
        assert [name for name in "abcde" if cache.loaded(name)] == ["c", "d", "e"]

    run(work())


def test_the_engines_of_a_model_are_separate(cache: ModelCache) -> None:
    async def work() -> None:
        await cache.get("a", JAX, 10)
        assert cache.loaded("a") == (JAX,)
        await cache.get("a", TORCH, 10)
        assert set(cache.loaded("a")) == {TORCH, JAX}
        assert cache.state()["bytes"] == 20

    run(work())


def test_a_model_larger_than_the_memory_for_models_is_refused(cache: ModelCache) -> None:
    async def work() -> None:
        await cache.get("a", TORCH, 100)
        with pytest.raises(Unavailable, match="TANDEM_MODEL_CACHE_BYTES"):
            await cache.get("b", TORCH, 101)
        assert cache.loaded("a") == (TORCH,)

    run(work())


def test_models_being_loaded_count_and_are_not_thrown_out(cache: ModelCache, loader: Loader) -> None:
    async def work() -> None:
        loader.gate.clear()
        loading = asyncio.create_task(cache.get("a", TORCH, 80))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(cache.get("b", TORCH, 30))
        await asyncio.sleep(0.05)
        assert cache.state()["models"] == 1
        loader.gate.set()
        assert await loading
        assert await waiting
        assert (cache.loaded("a"), cache.loaded("b")) == ((), (TORCH,))

    run(work())
