"""Health, workers, architectures; and what happens while a part is missing."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis
from sqlalchemy import text

from app.client import Tandem, TandemAPIError
from models import catalog
from models.job import JobSpec
from tests.app.serving import Running, assert_problem, registered, running, settings_in, until
from workers import fleet
from workers.valkey import EmbeddedValkey

JOB = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "linear"},
    "training": {"epochs": 1},
}


def test_a_server_whose_parts_all_answer_is_ready(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path / "valkey") as valkey,
        running(settings_in(tmp_path / "data", broker_url=valkey.url)) as server,
    ):
        assert until(lambda: server.services.residents.missing == ())
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json() == {
            "status": "ready",
            "checks": {"database": "ok", "broker": "ok", "artifacts": "ok", "models": "ok"},
        }


def test_a_new_job_is_announced_without_the_reconcilers_help(tmp_path: Path) -> None:
    with (
        EmbeddedValkey(tmp_path / "valkey") as valkey,
        running(settings_in(tmp_path / "data", broker_url=valkey.url, reconcile_every_s=600)) as server,
    ):
        job_id = server.client.post("/jobs", json=JOB).json()["id"]
        assert job_id in _message(valkey)


def _message(valkey: EmbeddedValkey) -> str:
    """The newest message to torch's workers, waited for."""
    deadline = time.monotonic() + 10
    with closing(Redis(unix_socket_path=str(valkey.socket))) as redis:
        while time.monotonic() < deadline:
            found = redis.lrange("train.torch", 0, 0)
            if found:
                return base64.b64decode(json.loads(found[0])["body"]).decode()
            time.sleep(0.02)
    raise AssertionError("no message came")


def test_readiness_says_that_the_broker_is_missing(client: httpx.Client) -> None:
    answer = client.get("/readyz")
    assert_problem(answer, 503, "/broker")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/broker"]
    assert client.get("/healthz").json()["status"] == "alive"


def test_readiness_says_that_the_store_cannot_be_written(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        scratch = server.services.settings.artifacts_dir / "scratch"
        scratch.rmdir()
        assert_problem(server.client.get("/readyz"), 503, "/artifacts")


def test_readiness_says_that_the_database_is_behind(tmp_path: Path) -> None:
    with running(settings_in(tmp_path)) as server:
        with server.services.database.session() as session:
            session.execute(text("DELETE FROM alembic_version"))
        assert_problem(server.client.get("/readyz"), 503, "/database")


@contextmanager
def frozen_broker() -> Iterator[str]:
    """A broker that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"redis://127.0.0.1:{door.getsockname()[1]}/0"


def test_a_frozen_broker_delays_no_job(tmp_path: Path) -> None:
    with frozen_broker() as url, running(settings_in(tmp_path, broker_url=url)) as server:
        server.client.get("/datasets/digits")
        for _ in range(3):
            began = time.monotonic()
            assert server.client.post("/jobs", json=JOB).status_code == 201
            assert time.monotonic() - began < 0.5
        assert len(server.client.get("/jobs").json()["data"]) == 3


def test_streams_have_a_limit(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, max_event_streams=1)) as server:
        url = f"/jobs/{server.client.post('/jobs', json=JOB).json()['id']}/events"
        live = {"Accept": "text/event-stream"}
        with server.client.stream("GET", url, headers=live) as first:
            lines = first.iter_lines()
            next(lines)
            refused = server.client.get(url, headers=live)
            assert_problem(refused, 503, None, "places")
            assert refused.headers["retry-after"] == "1"
            assert server.client.get(url).status_code == 200


def test_predictions_that_wait_have_a_limit(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, max_waiting_predictions=1, serving_threads=1)
    with running(settings) as server, ThreadPoolExecutor(3) as pool:
        # Too slow to be computed on the event loop.
        model = registered(server.services, model={"architecture": "resnet18", "stem": "cifar"})
        body = {"model": model.name, "inputs": [[[0] * 8] * 8], "engine": "torch"}
        assert server.client.post("/predict", json=body).status_code == 200
        gate = threading.Event()
        server.services.predictions.computers.submit(gate.wait, 30)
        # One is with the only runner, one waits, and there is no room for a third.
        three = [pool.submit(server.client.post, "/predict", json=body) for _ in range(3)]
        refused = next(as_completed(three)).result()
        gate.set()
        assert_problem(refused, 503, None, "wait for this model already")
        assert refused.headers["retry-after"] == "1"
        assert sorted(one.result().status_code for one in three) == [200, 200, 503]


def test_who_asks_for_a_model_that_is_still_loading_is_told_so_in_time(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, predict_timeout_s=0.3)) as server, ThreadPoolExecutor(1) as pool:
        model = registered(server.services)
        gate = threading.Event()
        loaders = server.services.predictions.loaders
        for _ in range(loaders._max_workers):
            loaders.submit(gate.wait, 30)
        inputs = [[[0] * 8] * 8]
        body = {"model": model.name, "inputs": inputs, "engine": "torch"}
        began = time.monotonic()
        refused = server.client.post("/predict", json=body)
        assert 0.3 < time.monotonic() - began < 5
        assert_problem(refused, 503, None, model.name, "still being loaded")
        assert refused.json()["code"] == "model_loading"
        assert refused.headers["retry-after"] == "1"
        with Tandem(str(server.client.base_url)) as tandem:
            with pytest.raises(TandemAPIError, match="still being loaded"):
                tandem.predict(model.name, inputs, engine="torch", patience_s=0.1)
            waiting = pool.submit(tandem.predict, model.name, inputs, engine="torch")
            assert not until(waiting.done, within_s=1.0)  # it asks again and again
            gate.set()
            assert waiting.result(timeout=60).engine == "torch"


def test_living_workers_are_listed(client: httpx.Client, server: Running) -> None:
    told = {"host": "here", "pid": 1, "framework": "jax", "device": "cpu", "slots": 2, "jobs": ["job_1"]}
    fleet.beat(server.services.database, id="wrk_1", **told)  # type: ignore[arg-type]
    (worker,) = client.get("/workers").json()["data"]
    assert worker.items() >= {"id": "wrk_1", "object": "worker", **told}.items()
    assert {"started_at", "last_seen_at"} <= worker.keys()


def test_every_architecture_is_listed_with_a_schema_that_jobs_take(client: httpx.Client) -> None:
    listed = client.get("/architectures").json()["data"]
    names = [one["name"] for one in listed]
    assert names == sorted(catalog.architectures())
    first = client.get("/architectures?limit=1").json()
    assert ([one["name"] for one in first["data"]], first["has_more"]) == (names[:1], True)
    rest = client.get("/architectures", params={"after": first["last_id"]}).json()
    assert ([one["name"] for one in rest["data"]], rest["has_more"]) == (names[1:], False)
    turned = client.get("/architectures?order=asc").json()["data"]
    assert [one["name"] for one in turned] == names[::-1]
    assert_problem(client.get("/architectures?after=nothing"), 422, "/after")
    for one in listed:
        assert one["frameworks"] == ["torch", "jax"]
        assert one["tasks"]
        assert one["description"]
        assert one["schema"]["properties"]["architecture"]
        assert one["schema"]["additionalProperties"] is False
        body = {**JOB, "model": {"architecture": one["name"]}}
        assert JobSpec.model_validate_json(json.dumps(body)).model.name == one["name"]
