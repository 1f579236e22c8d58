"""Which engine `auto` takes: the fastest of those that compute the same, as measured."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.prediction.evidence import BATCHES, TOLERANCE, Evidence, measure, verdict
from models.framework import ENGINES
from models.frameworks.openvino import exporter, graphs
from tests.app.serving import Running, assert_problem, registered, running, settings_in


def evidence(*milliseconds: float, difference: float = 0.0) -> Evidence:
    latency_s = {rows: ms / 1000 for rows, ms in zip(BATCHES, milliseconds, strict=True)}
    return Evidence(latency_s, difference)


def test_the_fastest_over_all_batch_sizes_is_taken() -> None:
    found = verdict({"torch": evidence(1, 2, 4), "jax": evidence(0.5, 2, 9)}, "torch")
    assert found.choice == "torch"
    assert found.reason == ("torch takes 2 ms on batches of 1, 8, 32 (geometric mean); jax takes 2.08 ms.")
    assert verdict({"torch": evidence(1, 2, 4), "jax": evidence(0.5, 2, 7)}, "torch").choice == "jax"


@pytest.mark.parametrize("difference", [2 * TOLERANCE, float("nan")])
def test_an_engine_that_computes_something_else_is_not_taken_however_fast(difference: float) -> None:
    found = verdict({"torch": evidence(9, 9, 9), "jax": evidence(1, 1, 1, difference=difference)}, "torch")
    assert found.choice == "torch"
    assert "jax is not used: its logits differ by" in found.reason


class Wrong:
    """Computes something else, and takes its time."""

    device = "cpu"

    def logits(self, x: np.ndarray) -> np.ndarray:
        time.sleep(0.001 * len(x))
        return np.full((len(x), 2), 1.01, np.float32)

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        pass


def test_an_engine_is_timed_by_batch_size_and_compared_with_the_reference() -> None:
    found = measure(Wrong(), np.zeros((32, 3), np.float32), np.full((32, 2), 2.0, np.float32))
    assert found.latency_s.keys() == set(BATCHES)
    assert found.latency_s[1] < found.latency_s[8] < found.latency_s[32]
    assert found.latency_s[32] >= 0.032
    assert found.difference == pytest.approx(0.99 / 2, rel=1e-5)
    assert not found.agrees


def test_the_evidence_is_shown_and_auto_follows_it(server: Running) -> None:
    model = registered(server.services, name="weighed")
    answer = server.client.get(f"/models/{model.name}/versions/1/engines")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert {one["name"] for one in found["engines"]} == set(ENGINES)
    assert found["unusable"] == {}
    means = {}
    for one in found["engines"]:
        assert one["agrees"]
        assert one["difference"] < 1e-5
        assert one["samples_per_s"]["32"] == pytest.approx(32_000 / one["latency_ms"]["32"])
        means[one["name"]] = np.prod([one["latency_ms"][str(rows)] for rows in BATCHES])
    assert found["choice"] == min(means, key=lambda name: means[name])
    assert found["reason"].startswith(f"{found['choice']} takes ")
    assert server.client.get(f"/models/{model.name}/versions/1/engines").json() == found  # measured once
    body = {"model": model.name, "inputs": [[[0] * 8] * 8]}
    assert server.client.post("/predict", json=body).json()["engine"] == found["choice"]
    for engine in ENGINES:
        assert server.client.post("/predict", json={**body, "engine": engine}).json()["engine"] == engine


def test_engines_are_measured_in_the_background_when_auto_is_first_asked_for(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, measure_engines=True)) as server:
        model = registered(server.services, framework="jax")
        body = {"model": model.name, "inputs": [[[0] * 8] * 8]}
        first = server.client.post("/predict", json=body)
        assert first.json()["engine"] == "jax"  # it trained the model, and nothing is known yet
        choice = server.client.get(f"/models/{model.name}/versions/1/engines").json()["choice"]
        assert server.client.post("/predict", json=body).json()["engine"] == choice


def test_an_engine_that_fails_leaves_the_model_to_the_others_and_is_tried_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken, running(settings_in(tmp_path, measure_engines=True)) as server:
        broken.setattr(exporter, "MAIN", "raise SystemExit('no memory')")
        broken.setattr(graphs, "EXPORTER", exporter.Exporter())
        registered(server.services, name="failing")
        found = server.client.get("/models/failing/versions/1/engines").json()
        assert found["unusable"].keys() == {"openvino"}
        assert "failed: status 1: no memory" in found["unusable"]["openvino"]
        body = {"model": "failing", "inputs": [[[0] * 8] * 8]}
        assert server.client.post("/predict", json=body).json()["engine"] == found["choice"]
        refused = server.client.post("/predict", json={**body, "engine": "openvino"})
        assert_problem(refused, 503, None, "no memory")
        assert refused.json()["code"] == "engine_unavailable"
    with running(settings_in(tmp_path, measure_engines=True)) as server:
        assert server.client.get("/models/failing/versions/1/engines").json()["unusable"] == {}


def test_what_is_not_there_cannot_be_measured(server: Running) -> None:
    assert_problem(server.client.get("/models/nobody/versions/1/engines"), 404)
    model = registered(server.services, name="short")
    assert_problem(server.client.get(f"/models/{model.name}/versions/2/engines"), 404)


def test_what_was_measured_is_kept_for_other_processes_and_the_next_start(tmp_path: Path) -> None:
    def engines(server: Running) -> dict[str, Any]:
        found: dict[str, Any] = server.client.get("/models/kept/versions/1/engines").json()
        return found

    with running(settings_in(tmp_path, measure_engines=True)) as server:
        registered(server.services, name="kept")
        first = engines(server)
    with running(settings_in(tmp_path, measure_engines=True)) as server:
        assert engines(server) == first  # times are never the same twice
        assert server.services.predictions.cache.state()["loads"] == 0
        answer = server.client.post("/predict", json={"model": "kept", "inputs": [[[0] * 8] * 8]})
        assert answer.json()["engine"] == first["choice"]
        assert server.services.predictions.cache.state()["loads"] == 1
    for file in (tmp_path / "cache/engines").glob("*.json"):
        file.write_text("{")
    with running(settings_in(tmp_path, measure_engines=True)) as server:
        again = engines(server)
        assert again != first
    old = time.time() - 8 * 24 * 3600
    for file in (tmp_path / "cache/engines").glob("*.json"):
        os.utime(file, (old, old))
    with running(settings_in(tmp_path, measure_engines=True)) as server:
        assert engines(server) != again


def test_processes_that_are_asked_at_once_measure_once(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, measure_engines=True)
    with running(settings) as one, running(settings) as other:
        registered(one.services, name="twice")
        for server in (
            one,
            other,
        ):  # FastAPI completes a route when it is first asked, not for two threads at once
            assert server.client.get("/models/nobody/versions/1/engines").status_code == 404
        with ThreadPoolExecutor(2) as threads:
            asked = [
                threads.submit(server.client.get, "/models/twice/versions/1/engines")
                for server in (one, other)
            ]
            found = [answer.result().json() for answer in asked]
    assert found[0] == found[1]
