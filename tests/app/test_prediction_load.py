"""Under load every answer belongs to its own request, and who has gone is not computed."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.prediction.cache import Variant
from models.framework import ENGINES
from tests.app.serving import Registered, Running, linear_logits, registered, running, settings_in, until


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(settings_in(tmp_path_factory.mktemp("busy"))) as server:
        yield server


class Answer:
    """An answer and the request that it came to."""

    def __init__(self, asked: Any, status: int, content: bytes) -> None:
        self.asked, self.status, self.body = asked, status, json.loads(content)


async def asked(
    address: tuple[str, int], requests: list[tuple[Any, bytes]], connections: int = 32
) -> list[Answer]:
    """All of them over so many connections, and what came back."""
    queue, found = iter(requests), []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(*address)
        for what, content in queue:
            start = f"POST /predict HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/json\r\n"
            writer.write(f"{start}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            top = await reader.readuntil(b"\r\n\r\n")
            size = next(
                int(line.partition(b":")[2])
                for line in top.lower().split(b"\r\n")
                if b"content-length" in line
            )
            found.append(Answer(what, int(top.split()[1]), await reader.readexactly(size)))
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(connection())
    return found


def rows_for(model: Registered, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    about = model.file.card.preprocessing
    return (about.mean + generator.standard_normal((count, 10)) * about.std).astype(np.float32)


def value_of(model: Registered, x: np.ndarray) -> np.ndarray:
    about = model.file.card.preprocessing
    return linear_logits(model.file, x)[:, 0] * about.target_std + about.target_mean


@pytest.mark.parametrize("engine", ENGINES)
def test_among_ten_thousand_with_bad_ones_between_each_good_one_gets_its_own_answer(
    engine: str, busy: Running
) -> None:
    model = registered(busy.services, dataset="diabetes", name=f"crowd-{engine}")
    x = rows_for(model, 5000)
    expected = value_of(model, x)
    requests: list[tuple[Any, bytes]] = []
    for index, row in enumerate(x.astype(float).tolist()):
        bad = index % 20 == 7
        row = row[:-1] if bad else row
        content = {"model": model.name, "inputs": [row], "engine": engine}
        requests.append((None if bad else index, json.dumps(content).encode()))
    found = asyncio.run(asked(busy.address, requests, connections=64))
    assert len(found) == 5000
    together = 0
    for one in found:
        if one.asked is None:
            assert one.status == 422
            assert one.body["errors"][0]["pointer"] == "/inputs/0"
            continue
        assert one.status == 200, one.body
        assert one.body["predictions"][0]["value"] == pytest.approx(expected[one.asked], rel=1e-4, abs=1e-3)
        together += one.body["timing"]["batch_size"] > 1
    assert together > 100


@pytest.mark.parametrize("engine", ENGINES)
def test_an_alias_that_moves_under_load_fails_nobody(engine: str, busy: Running) -> None:
    name = f"moving-{engine}"
    versions = {
        one.version: one
        for one in (registered(busy.services, dataset="diabetes", name=name, seed=seed) for seed in range(3))
    }
    x = rows_for(versions[1], 1500)
    expected = {version: value_of(one, x) for version, one in versions.items()}
    requests: list[tuple[Any, bytes]] = [
        (index, json.dumps({"model": f"{name}@live", "inputs": [row], "engine": engine}).encode())
        for index, row in enumerate(x.astype(float).tolist())
    ]
    for version in versions:  # else the load may be over before the second of them is loaded
        content = {"model": f"{name}@{version}", "inputs": [x[0].tolist()], "engine": engine}
        assert busy.client.post("/predict", json=content).status_code == 200
    address = f"/models/{name}/aliases/live"
    assert busy.client.put(address, json={"version": 1}).status_code == 200
    stop = threading.Event()
    moves: list[int] = []

    def move() -> None:
        with httpx.Client(base_url=busy.client.base_url) as client:
            version = 1
            while not stop.is_set():
                version = version % 3 + 1
                assert client.put(address, json={"version": version}).status_code == 200
                # From the moment that the change is answered, nobody gets the version before.
                content = {"model": f"{name}@live", "inputs": [x[0].tolist()], "engine": engine}
                assert client.post("/predict", json=content).json()["model"]["version"] == version
                moves.append(version)
                time.sleep(0.02)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        found = asyncio.run(asked(busy.address, requests))
        while len(moves) < 3 and mover.is_alive():  # on a busy machine one load may be over before a move
            found += asyncio.run(asked(busy.address, requests))
    finally:
        stop.set()
        mover.join()
    assert len(moves) >= 3
    assert {one.status for one in found} == {200}
    assert len({one.body["model"]["version"] for one in found}) > 1
    for one in found:
        right = expected[one.body["model"]["version"]][one.asked]
        assert one.body["predictions"][0]["value"] == pytest.approx(right, rel=1e-4, abs=1e-3)


def test_a_client_that_goes_leaves_the_queue(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, serving_threads=1)) as server:
        # Too slow to be computed on the event loop.
        model = registered(server.services, model={"architecture": "resnet18", "stem": "cifar"})
        content = json.dumps({"model": model.name, "inputs": [[[0] * 8] * 8], "engine": "torch"}).encode()
        assert server.client.post("/predict", content=content).status_code == 200
        predictions = server.services.predictions
        served = predictions.cache.ready((model.sha256, Variant("torch")))
        assert served is not None
        gate = threading.Event()
        predictions.computers.submit(gate.wait, 30)
        start = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        with ExitStack() as open_lines:
            lines = [open_lines.enter_context(socket.create_connection(server.address)) for _ in range(3)]
            for line in lines:
                line.sendall(start + content)
            assert until(lambda: served.raw.waiting_rows == 2)  # one is with the runner
            lines[2].close()
            assert until(lambda: served.raw.waiting_rows == 1)
            gate.set()
            for line in lines[:2]:
                assert line.recv(65536).startswith(b"HTTP/1.1 200")
