"""A real server on a real port, with a real database and artifact store; no broker, no workers."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.prediction.cache import Variant
from app.process import config
from app.services import Services
from app.submission import settled
from models import catalog
from models.data.dataset import Dataset
from models.initial import initial_weights
from models.job import JobSpec
from models.preparation import prepared
from models.weights import ModelCard, Weights, WeightsFile, write_weights
from workers import datasets, jobs
from workers.reports import FinishedModel
from workers.settings import Settings

DEAD_BROKER = "redis://127.0.0.1:1/0"


@dataclass
class Running:
    """A server in this process, with what it works with at hand."""

    client: httpx.Client
    services: Services
    address: tuple[str, int]


@contextmanager
def running(
    settings: Settings, create: Callable[[Settings], FastAPI] = create_app, **changes: Any
) -> Iterator[Running]:
    """`changes` are those of `process.config`."""
    app = create(settings)
    server = uvicorn.Server(config(app, timeout_graceful_shutdown=1, lifespan="on", **changes))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            address = door.getsockname()
            with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}", timeout=30) as client:
                yield Running(client, app.state.services, address)
        finally:
            server.should_exit = True
            thread.join()


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Engines are not measured unless a test says so: which one is faster is chance."""
    given = {"data_dir": folder, "broker_url": DEAD_BROKER, "database_url": "", "measure_engines": False}
    return Settings(**{**given, **changes})


@dataclass(frozen=True)
class Registered:
    """A model that a (pretended) worker has registered, and the weights it has."""

    name: str
    version: int
    job_id: str
    sha256: str
    file: WeightsFile


def registered(
    services: Services,
    dataset: str = "digits",
    framework: str = "torch",
    seed: int = 0,
    weights: Weights | None = None,
    **changes: Any,
) -> Registered:
    """A model of this dataset with these weights, else with its initial ones, by the same steps as a worker takes;
    linear unless `changes` say another one."""
    database, store = services.database, services.store
    body = {
        "framework": framework,
        "dataset": dataset,
        "model": {"architecture": "linear"},
        "training": {"epochs": 1, "seed": seed},
        **changes,
    }
    spec, record = settled(database, JobSpec.model_validate_json(json.dumps(body)))
    file = _untrained(spec, datasets.samples(store, record))
    if weights is not None:
        file = WeightsFile(file.card, weights)
    job = jobs.create(database, spec, record, max_attempts=1)
    claim = jobs.claim(database, job.id, worker="wrk_test", host="here", lease_s=60)
    assert claim is not None
    with store.scratch(".safetensors") as path:
        write_weights(file, path)
        artifact = store.adopt(path)
    finished = FinishedModel(
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        parameters=catalog.parameter_count(file.card.model, file.card.signature),
        signature=file.card.signature,
        classes=file.card.classes,
        metrics={"test_loss": 2.3},
    )
    version = jobs.finish(database, job.id, claim.fence, finished)
    assert version is not None
    return Registered(version.name, version.version, job.id, artifact.sha256, file)


def _untrained(spec: JobSpec, dataset: Dataset) -> WeightsFile:
    data = prepared(dataset, spec, None, Path("/nowhere"))
    about = data.description
    assert data.preprocessing is not None
    card = ModelCard(
        model=spec.model,
        signature=about.signature,
        preprocessing=data.preprocessing,
        classes=about.classes,
    )
    return WeightsFile(card, initial_weights(spec.model, about.signature, spec.training.seed))


def linear_logits(file: WeightsFile, x: np.ndarray) -> np.ndarray:
    """What a linear model gives for raw input x, by its definition, in float64."""
    normal = file.card.preprocessing.normalisation
    standard = (x.astype(np.float64) - normal.mean) * normal.inverse_std
    if standard.ndim == 4:
        standard = standard.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return standard @ file.weights["linear.weight"].T.astype(np.float64) + file.weights["linear.bias"]


def age(server: Running, sha256: str) -> None:
    """Let a stored file look old enough to be deleted at once: fresh ones are left to the hourly sweep."""
    path = server.services.store.path(sha256)
    path.chmod(0o644)
    os.utime(path, (1, 1))


def slowed(server: Running, model: Registered, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is loaded in torch takes so much longer for each batch."""
    loaded = server.services.predictions.cache.ready((model.sha256, Variant("torch")))
    assert loaded is not None
    compute = loaded.raw._compute

    def slow(x: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return compute(x)

    monkeypatch.setattr(loaded.raw, "_compute", slow)


def until(true: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether it becomes true in that time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return False


def assert_problem(answer: httpx.Response, status: int, pointer: str | None = None, *hints: str) -> None:
    """The answer is a whole problem document with this status, names this field, and its detail has these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {
        "type", "title", "status", "detail", "instance", "code", "request_id", "errors", "error",
    }  # fmt: skip
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["instance"] == answer.request.url.path
    assert "Traceback" not in answer.text
    if pointer is not None:
        assert pointer in [error["pointer"] for error in problem["errors"]], problem["errors"]
    for hint in hints:
        assert hint in problem["detail"]
