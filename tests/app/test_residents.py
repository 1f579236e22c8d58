"""Models that are in memory before anybody asks, and stay there; bounds of a model's own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.prediction.cache import Variant
from tests.app.serving import Registered, Running, assert_problem, registered, running, settings_in, until
from workers import registry

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
    with running(settings_in(tmp_path)) as server:
        whole = registered(server.services, name="whole")
        damaged = registered(server.services, name="damaged", seed=1)
        path = server.services.store.path(damaged.sha256)
        path.chmod(0o644)
        path.write_bytes(b"x" + path.read_bytes()[1:])
        gate = threading.Event()
        loaders = server.services.predictions.loaders
        held = [loaders.submit(gate.wait, 30) for _ in range(2)]
        for name in ("damaged", "whole"):
            assert serving(server, name, load="at_start").status_code == 200
        assert until(lambda: server.services.residents.missing == ("damaged", "whole"))
        answer = server.client.get("/readyz")
        assert_problem(answer, 503, "/models")
        assert "damaged, whole" in answer.text
        gate.set()
        assert all(one.result() for one in held)
        assert until(lambda: server.services.residents.missing == ())
        assert "/models" not in server.client.get("/readyz").text  # the broker is missing, no model is
        assert is_loaded(server, whole)
        assert_problem(predicted(server, "damaged"), 503)


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
        gate = threading.Event()
        served = server.services.predictions.cache.ready((model.sha256, Variant("torch")))
        assert served is not None
        with ThreadPoolExecutor(16) as threads:
            server.services.predictions.computers.submit(gate.wait, 30)
            first = threads.submit(predicted, server, "bounded")  # its batch is the runner's
            assert until(lambda: bool(served.raw.limits.waiting == 5) and served.raw.waiting_rows == 0)
            waiting = [threads.submit(predicted, server, "bounded") for _ in range(5)]
            assert until(lambda: served.raw.waiting_rows == 5)
            refused = predicted(server, "bounded")
            assert_problem(refused, 503, None, "Try again")
            assert "retry-after" in refused.headers
            gate.set()
            sizes = [one.result().json()["timing"]["batch_size"] for one in (first, *waiting)]
        assert max(sizes) == 2
