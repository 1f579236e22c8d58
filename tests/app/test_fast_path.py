"""The fast path answers as the usual way does, and under load every answer belongs to its own request."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.prediction.cache import Variant
from app.prediction.http_protocol import Exchange
from models.framework import ENGINES
from tests.app.serving import Registered, Running, linear_logits, registered, running, settings_in, until

KEY = "open-sesame"
GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
USUAL = {"Origin": "http://127.0.0.1"}
"""A header that sends a request the usual way, and changes nothing else."""
OWN = {"x-request-id", "date", "content-length"}
"""Headers that differ from answer to answer."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(
        tmp_path_factory.mktemp("guarded"), api_key=KEY, max_body_bytes=20_000, max_batch_items=5
    )
    with running(settings) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        registered(server.services, dataset="diabetes", name="rows")
        yield server


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """An answer without what differs from time to time."""
    body = answer.json()
    for name in ("timing", "request_id"):
        body.pop(name, None)
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in OWN}, body


ROW = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.86, 87.0]


def body(**changes: Any) -> bytes:
    return json.dumps({"model": "rows", "inputs": [ROW], "engine": "torch", **changes}).encode()


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (body(), {}),
        (body(**{"return": ["logits"]}), {}),
        (body(top_k=2), {}),
        (body(top_k=True), {}),
        (body(top_k="2"), {}),
        (body(engine="tensorflow"), {}),
        (body(colour="red"), {}),
        (body(model="rose"), {}),
        (body(model=3), {}),
        (body(model={"a": 1}), {}),
        (body(inputs=[]), {}),
        (body(inputs=ROW), {}),
        (body(inputs="x"), {}),
        (body(inputs=[ROW] * 6), {}),
        (body(inputs=[ROW, ROW[:-1]]), {}),
        (body(inputs=[[*ROW[:-1], "x"]]), {}),
        (body(inputs=[[*ROW[:-1], 1e39]]), {}),
        (body().replace(b"87.0", b"NaN"), {}),
        (body().replace(b"87.0", b"1e400"), {}),
        (b"[1]", {}),
        (b"{", {}),
        (b"\xff\xfe{}", {}),
        (b"[" * 40 + b"]" * 40, {}),
        (body() + b" " * 20_000, {}),
        (body(), {"Content-Type": "text/plain"}),
        (body(), {"Content-Encoding": "gzip"}),
        (body(), {"Host": "evil.example"}),
        (body(), {"Authorization": "Bearer wrong"}),
        (body(), {"Authorization": f"bearer  {KEY}"}),
    ],
)
def test_every_answer_is_that_of_the_usual_way(
    content: bytes, headers: dict[str, str], guarded: Running
) -> None:
    headers = {"Content-Type": "application/json", **headers}
    usual = guarded.client.post("/predict", content=content, headers={**headers, **USUAL})
    for _ in range(3):  # a head that has been read before is not read again
        fast = guarded.client.post("/predict", content=content, headers=headers)
        assert told(fast) == told(usual)
    assert fast.headers["x-request-id"].startswith("req_")
    assert len(fast.headers["x-request-id"]) == len(usual.headers["x-request-id"])


def test_the_requests_own_id_is_kept_and_a_strange_one_is_not(guarded: Running) -> None:
    for given, kept in (("mine-7", True), ("not usable!", False)):
        answer = guarded.client.post("/predict", content=body(), headers={"X-Request-Id": given})
        assert answer.status_code == 200
        assert (answer.headers["x-request-id"] == given) is kept


def test_ids_are_never_repeated(guarded: Running) -> None:
    ids = {guarded.client.post("/predict", content=body()).headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


def test_requests_are_counted_as_on_the_usual_way(guarded: Running) -> None:
    line = 'tandem_http_requests_total{method="POST",process="0",route="/predict",status="200"}'

    def counted() -> float:
        text = guarded.client.get("/metrics").text
        return float(next(one for one in text.splitlines() if one.startswith(line)).rpartition(" ")[2])

    assert guarded.client.post("/predict", content=body()).status_code == 200
    before = counted()
    guarded.client.post("/predict", content=body())
    guarded.client.post("/predict", content=body(), headers=USUAL)
    assert counted() == before + 2


def test_the_time_of_a_failure_begins_with_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = 'tandem_http_request_seconds_sum{method="POST",process="0",route="/predict"}'
    with running(settings_in(tmp_path, predict_timeout_s=0.5, serving_threads=1)) as server:

        def asked() -> int:
            content = {"model": "pictures", "inputs": [np.zeros((8, 8)).tolist()], "engine": "torch"}
            return server.client.post("/predict", json=content).status_code

        def seconds() -> float:
            lines = server.client.get("/metrics").text.splitlines()
            return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

        model = registered(
            server.services, dataset="digits", name="pictures", model={"architecture": "resnet18"}
        )
        assert until(lambda: asked() == 200)  # loading takes longer
        loaded = server.services.predictions.cache.ready((model.sha256, Variant("torch")))
        assert loaded is not None
        compute = loaded.raw._compute

        def slow(x: np.ndarray) -> np.ndarray:
            time.sleep(1)
            return compute(x)

        monkeypatch.setattr(loaded.raw, "_compute", slow)
        before = seconds()
        with ThreadPoolExecutor(2) as clients:
            assert sorted(clients.map(lambda _: asked(), range(2))) == [200, 503]
        assert 1.5 < seconds() - before < 10  # a second each, but for the time until the first was taken


def raw(address: tuple[str, int], *pieces: bytes, pause_s: float = 0.1) -> bytes:
    """What comes back when these bytes are sent one after the other."""
    with socket.create_connection(address, timeout=10) as line:
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause_s)
        return line.recv(65536)


def answers(found: bytes) -> list[tuple[int, Any]]:
    """Status and body of each."""
    told = []
    while found:
        top, _, rest = found.partition(b"\r\n\r\n")
        size = next(
            int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        told.append((int(top[9:12]), json.loads(rest[:size])))
        found = rest[size:]
    return told


def head(size: int, *more: str) -> bytes:
    lines = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}", *more)
    return "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {size}", "", "")).encode()


def test_a_body_that_comes_in_pieces_is_taken(guarded: Running) -> None:
    content = body()
    found = raw(guarded.address, head(len(content)), content[:40], content[40:])
    assert found.startswith(b"HTTP/1.1 200")


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, body_grace_s=0.3)) as server:
        for _ in range(2):
            found = raw(server.address, head(100), pause_s=1)
            assert found.startswith(b"HTTP/1.1 408")
            assert b"slow_body" in found


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is given to the HTTP parser."""
    found: list[bytes] = []
    parse = HttpToolsProtocol.data_received

    def noting(self: HttpToolsProtocol, data: bytes) -> None:
        found.append(data)
        parse(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", noting)
    return found


def test_a_head_that_came_before_is_not_parsed_again(guarded: Running, parsed: list[bytes]) -> None:
    content = body(top_k=1)
    whole = head(len(content), "X-Test: again") + content
    told = answers(raw(guarded.address, whole, whole, whole))
    assert parsed == [whole]
    assert [status for status, _ in told] == [200] * 3
    other = body(top_k=1, inputs=[[1.0, *ROW[1:]]])  # other numbers, and another length
    assert answers(raw(guarded.address, head(len(other), "X-Test: again") + other))[0][0] == 200
    assert len(parsed) == 2


def test_bodies_behind_such_a_head_may_come_in_pieces(guarded: Running, parsed: list[bytes]) -> None:
    content = body()
    top = head(len(content), "X-Test: pieces")
    assert answers(raw(guarded.address, top + content))[0][0] == 200
    found = raw(guarded.address, top, content[:9], content[9:] + top, content, pause_s=0.02)
    # What comes with the next request is parsed after all.
    assert [status for status, _ in answers(found)] == [200, 200]
    assert parsed == [top + content, top + content + top, content]
    del parsed[:]
    assert answers(raw(guarded.address, top, content[:9], content[9:], pause_s=0.02))[0][0] == 200
    assert parsed == []


def test_two_requests_at_once_are_answered_in_their_order(guarded: Running) -> None:
    one, two = body(), body(inputs=[ROW, ROW])
    whole = head(len(one)) + one + head(len(two)) + two + head(len(one)) + one
    for _ in range(3):
        told = answers(raw(guarded.address, whole, pause_s=0.3))
        assert [len(each["predictions"]) for _, each in told] == [1, 2, 1]


def test_a_wrong_request_behind_such_a_head_is_told_and_the_next_is_answered(
    guarded: Running, parsed: list[bytes]
) -> None:
    good, wrong = body(), body(inputs=[[*ROW[:-1], "8700"]])[: len(body())]
    top = head(len(good), "X-Test: wrong")
    assert len(wrong) == len(good)
    assert answers(raw(guarded.address, top + good))[0][0] == 200
    told = answers(raw(guarded.address, top + wrong, top + good))
    assert [status for status, _ in told] == [400, 200]
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "strange",
    [
        b"\r\n\r\n" + head(len(body())),  # llhttp leaves out empty lines before a request
        head(len(body()), "X-Request-Id: mine"),
        head(len(body()), "Connection: close"),
        head(len(body()), "X-Long: " + "x" * 3000),
    ],
)
def test_other_heads_are_parsed_each_time(strange: bytes, guarded: Running, parsed: list[bytes]) -> None:
    for _ in range(2):
        assert answers(raw(guarded.address, strange + body()))[0][0] == 200
    assert parsed == [strange + body()] * 2


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """How many exchanges there are, with nobody to find those that lead back to themselves."""
    gc.collect()
    gc.disable()
    yield lambda: sum(type(one) is Exchange for one in gc.get_objects())
    gc.enable()


def test_requests_leave_nothing_for_the_garbage_collector(
    guarded: Running, uncollected: Callable[[], int]
) -> None:
    wrong = body(inputs=[[*ROW[:-1], "x"]])
    whole = head(len(body())) + body()
    for _ in range(10):
        raw(guarded.address, whole, whole, pause_s=0.01)
        raw(guarded.address, head(len(wrong)) + wrong, whole, pause_s=0.05)
    time.sleep(0.2)
    assert uncollected() <= 1  # that of the fixture's client


def test_a_connection_that_goes_before_its_body_has_come_leaves_nothing(guarded: Running) -> None:
    content = body()
    top = head(len(content), "X-Test: gone")
    assert answers(raw(guarded.address, top + content))[0][0] == 200
    for _ in range(5):
        with socket.create_connection(guarded.address, timeout=10) as line:
            line.sendall(top + content[:9])
            time.sleep(0.02)
    time.sleep(0.2)
    assert answers(raw(guarded.address, top + content))[0][0] == 200


def test_a_connection_is_kept_while_it_is_used_and_closed_when_it_is_idle(tmp_path: Path) -> None:
    with running(settings_in(tmp_path), timeout_keep_alive=1) as server:
        registered(server.services, dataset="diabetes", name="rows")
        content = body()
        for target in ("/predict", "/healthz"):  # both kinds of exchange
            whole = head(len(content)) + content if target == "/predict" else GET % target.encode()
            with socket.create_connection(server.address, timeout=10) as line:
                for _ in range(5):
                    line.sendall(whole)
                    assert line.recv(65536).startswith(b"HTTP/1.1 200")
                    time.sleep(0.4)
                began = time.monotonic()
                assert line.recv(65536) == b""
                assert 0.3 < time.monotonic() - began < 3


def test_an_exchange_that_takes_longer_than_connections_are_kept_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_in(tmp_path), timeout_keep_alive=1) as server:
        model = registered(server.services, dataset="diabetes", name="rows")
        content = body()
        whole = head(len(content)) + content
        assert answers(raw(server.address, whole))[0][0] == 200
        predictions = server.services.predictions
        loaded = predictions.cache.ready((model.sha256, Variant("torch")))
        assert loaded is not None
        compute = loaded.raw._compute

        def slow(x: np.ndarray) -> np.ndarray:
            time.sleep(1.5)
            return compute(x)

        monkeypatch.setattr(loaded.raw, "_compute", slow)
        with socket.create_connection(server.address, timeout=10) as line:
            line.sendall(whole)
            assert answers(line.recv(65536))[0][0] == 200
            line.sendall(whole * 2)
            found = b""
            while found.count(b"HTTP/1.1 200") < 2:
                more = line.recv(65536)
                assert more, "cut"
                found += more


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

    def move() -> None:
        with httpx.Client(base_url=busy.client.base_url) as client:
            version = 1
            while not stop.is_set():
                version = version % 3 + 1
                assert client.put(address, json={"version": version}).status_code == 200
                # From the moment that the change is answered, nobody gets the version before.
                content = {"model": f"{name}@live", "inputs": [x[0].tolist()], "engine": engine}
                assert client.post("/predict", json=content).json()["model"]["version"] == version
                time.sleep(0.02)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        found = asyncio.run(asked(busy.address, requests))
    finally:
        stop.set()
        mover.join()
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
