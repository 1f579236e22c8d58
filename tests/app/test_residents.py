"""Models that are in memory before anybody asks, and stay there; bounds of a model's own."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.counts import Counts
from app.prediction.cache import Variant
from app.prediction.residents import Residents
from app.prediction.service import PredictionService
from app.routes import health
from models.errors import Unavailable
from tests.app.serving import Registered, Running, assert_problem, registered, running, settings_in, until
from workers import registry
from workers.artifacts import ArtifactStore
from workers.database import Database

PICTURE = [[0] * 8] * 8


def serving(server: Running, name: str, **chosen: Any) -> httpx.Response:
    return server.client.patch(f"/models/{name}", json={"serving": chosen})


def predicted(server: Running, name: str, **given: Any) -> httpx.Response:
    return server.client.post(
        "/predict", json={"model": name, "inputs": [PICTURE], "engine": "torch", **given}
    )


def is_loaded(server: Running, model: Registered) -> bool:
    return bool(server.services.predictions.cache.loaded(model.sha256))


def test_what_is_chosen_is_kept_and_the_rest_stays_as_it_was(server: Running) -> None:
    registered(server.services, name="chosen")
    usual = {"load": "on_demand", "max_batch_rows": None, "max_waiting_predictions": None}
    assert server.client.get("/models/chosen").json()["serving"] == usual
    assert serving(server, "chosen", max_batch_rows=4).json()["serving"] == {**usual, "max_batch_rows": 4}
    found = serving(server, "chosen", load="at_start").json()["serving"]
    assert found == {**usual, "max_batch_rows": 4, "load": "at_start"}
    assert serving(server, "chosen", max_batch_rows=None, load="on_demand").json()["serving"] == usual
    for wrong, pointer in (
        ({"load": "never"}, "/serving/load"),
        ({"max_batch_rows": 0}, "/serving/max_batch_rows"),
        ({"max_batch_rows": True}, "/serving/max_batch_rows"),
        ({"max_waiting_predictions": 2**40}, "/serving/max_waiting_predictions"),
        ({"lod": "pinned"}, "/serving/lod"),
    ):
        assert_problem(serving(server, "chosen", **wrong), 422, pointer)
    assert_problem(serving(server, "chozen", load="pinned"), 404, None, "chosen")


@pytest.mark.parametrize("load", ["at_start", "pinned"])
def test_a_model_is_loaded_when_it_is_chosen_when_its_alias_moves_and_when_the_server_starts(
    load: str, tmp_path: Path
) -> None:
    with running(settings_in(tmp_path)) as server:
        first, second = (registered(server.services, name="early", seed=seed) for seed in range(2))
        assert server.client.put("/models/early/aliases/champion", json={"version": 1}).status_code == 200
        time.sleep(0.6)
        assert not is_loaded(server, first)
        assert serving(server, "early", load=load).status_code == 200
        assert until(lambda: is_loaded(server, first))
        assert server.client.put("/models/early/aliases/champion", json={"version": 2}).status_code == 200
        assert until(lambda: is_loaded(server, second))
    with running(settings_in(tmp_path)) as server:
        assert until(lambda: is_loaded(server, second))
        assert not is_loaded(server, first)
        loads = server.services.predictions.cache.state()["loads"]
        assert predicted(server, "early").json()["model"]["version"] == 2
        assert server.services.predictions.cache.state()["loads"] == loads


def test_readiness_waits_for_the_models_of_the_start_and_not_for_a_damaged_one(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with running(settings) as server:
        for seed, name in enumerate(("bad", "whole")):
            registered(server.services, name=name, seed=seed)
            assert serving(server, name, load="at_start").status_code == 200
        bad = server.services.store.path(registry.resolve(server.services.database, "bad").sha256)
    bad.chmod(0o644)
    bad.write_bytes(b"x" + bad.read_bytes()[1:])
    database, store = Database(settings.database_url), ArtifactStore(settings.artifacts_dir)

    async def scenario() -> None:
        predictions = PredictionService(settings, database, store, Counts())
        gate = threading.Event()
        held = [predictions.loaders.submit(gate.wait, 30) for _ in range(2)]
        residents = Residents(database, predictions)
        uses: Any = SimpleNamespace(residents=residents)
        with pytest.raises(Unavailable, match="not known yet"):
            health.CHECKS["models"](uses)
        residents.start()
        assert await asyncio.to_thread(until, lambda: residents.missing is not None)
        with pytest.raises(Unavailable, match="bad, whole"):
            health.CHECKS["models"](uses)
        gate.set()
        assert await asyncio.to_thread(until, lambda: residents.missing == ())
        health.CHECKS["models"](uses)
        whole = await asyncio.to_thread(registry.resolve, database, "whole")
        assert predictions.cache.loaded(whole.sha256)
        await residents.stop()
        assert all(one.result() for one in held)
        predictions.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    database.close()


def test_what_is_chosen_later_does_not_take_the_readiness_away(server: Running) -> None:
    assert until(lambda: server.services.residents.missing == ())
    later = registered(server.services, name="later", seed=30)
    gate = threading.Event()
    held = [server.services.predictions.loaders.submit(gate.wait, 30) for _ in range(2)]
    try:
        assert serving(server, "later", load="at_start").status_code == 200
        time.sleep(1)
        assert server.services.residents.missing == ()
    finally:
        gate.set()
    assert all(one.result() for one in held)
    assert until(lambda: is_loaded(server, later))


class Failing:
    """Stands before something that is called, and fails at first."""

    def __init__(self, real: Callable[..., Any], failures: int, error: Exception) -> None:
        self.real, self.failures, self.error = real, failures, error

    def __call__(self, *given: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise self.error
        return self.real(*given)


@pytest.mark.parametrize("error", [Unavailable("not now"), RuntimeError("CUDA out of memory")])
def test_a_load_that_fails_stops_nobody_from_following(error: Exception, tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        first, second = (registered(server.services, name=f"model-{seed}", seed=seed) for seed in range(2))
        cache = server.services.predictions.cache
        cache.load = Failing(cache.load, 1, error)
        assert serving(server, "model-0", load="pinned").status_code == 200
        assert until(lambda: cache.load.failures == 0)
        assert serving(server, "model-1", load="pinned").status_code == 200
        assert until(lambda: is_loaded(server, second))
        if isinstance(error, Unavailable):  # tried again
            assert until(lambda: is_loaded(server, first))
        assert server.services.residents.missing == ()


def test_a_pinned_model_makes_no_room_and_pins_have_an_end(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        registered(server.services, name="measured")
        bytes_ = server.client.get("/models/measured/versions/1").json()["size_bytes"]
    with running(settings_in(tmp_path, model_cache_bytes=2 * bytes_ + bytes_ // 2)) as server:
        stays = registered(server.services, name="stays", seed=1)
        assert serving(server, "stays", load="pinned").status_code == 200
        assert until(lambda: is_loaded(server, stays))
        others = [registered(server.services, name=f"other-{seed}", seed=seed) for seed in (2, 3, 4)]
        for one in others:
            assert predicted(server, one.name).status_code == 200
        assert is_loaded(server, stays)
        assert [is_loaded(server, one) for one in others] == [False, False, True]
        assert serving(server, "other-2", load="pinned").status_code == 200
        refused = serving(server, "other-3", load="pinned")
        assert_problem(refused, 422, "/serving/load", "TANDEM_MODEL_CACHE_BYTES", "Unpin another")
        assert serving(server, "stays", load="on_demand").status_code == 200
        assert serving(server, "other-3", load="pinned").status_code == 200


def test_what_another_process_unloads_or_deletes_leaves_the_memory(server: Running) -> None:
    models = [registered(server.services, name=f"leaving-{seed}", seed=10 + seed) for seed in range(3)]
    for one in models:
        assert predicted(server, one.name).status_code == 200
    registry.set_enabled(server.services.database, "leaving-0", False)
    registry.delete_model(server.services.database, server.services.store, "leaving-1")
    assert until(lambda: not is_loaded(server, models[0]) and not is_loaded(server, models[1]))
    assert is_loaded(server, models[2])
    assert_problem(server.client.get("/models/leaving-0/versions/1/engines"), 503, None, "unloaded")
    assert not is_loaded(server, models[0])


def test_a_model_has_bounds_of_its_own(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, serving_threads=1)) as server:
        # Too slow to be computed on the event loop.
        heavy = {"architecture": "resnet18", "stem": "cifar"}
        model = registered(server.services, name="bounded", model=heavy)
        assert predicted(server, "bounded").status_code == 200
        assert serving(server, "bounded", max_batch_rows=2, max_waiting_predictions=5).status_code == 200
        other = registered(server.services, name="unbounded", model=heavy)
        assert other.sha256 == model.sha256
        assert predicted(server, "unbounded").status_code == 200
        gate = threading.Event()
        served = server.services.predictions.cache.ready((model.sha256, Variant("torch")))
        assert served is not None
        with ThreadPoolExecutor(16) as threads:
            server.services.predictions.computers.submit(gate.wait, 30)
            first = threads.submit(predicted, server, "bounded")  # its batch is the runner's
            assert until(lambda: served.raw.waiting_rows == 1 or not first.done())
            assert until(lambda: served.raw.waiting_rows == 0)
            waiting = [threads.submit(predicted, server, "bounded") for _ in range(5)]
            assert until(lambda: served.raw.waiting_rows == 5)
            refused = predicted(server, "bounded")
            assert_problem(refused, 503, None, "Try again")
            assert "retry-after" in refused.headers
            more = threads.submit(predicted, server, "unbounded")  # the same weights, another model's bounds
            assert until(lambda: served.raw.waiting_rows == 6)
            gate.set()
            sizes = [one.result().json()["timing"]["batch_size"] for one in (first, *waiting)]
            assert more.result().status_code == 200
        assert max(sizes) == 2
