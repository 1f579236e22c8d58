"""The fast path answers as the usual way does, and counts as it does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.rows_model import KEY, ROW, body
from tests.app.serving import Running, registered, running, settings_in, slowed, until

USUAL = {"Origin": "http://127.0.0.1"}
"""A header that sends a request the usual way, and changes nothing else."""
OWN = {"x-request-id", "date", "content-length"}
"""Headers that differ from answer to answer."""


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """An answer without what differs from time to time."""
    body = answer.json()
    for name in ("timing", "request_id"):
        body.pop(name, None)
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in OWN}, body


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
        (body()[:-1] + b', "model": "rose"}', {}),
        (body()[:-1] + b', "\\u006dodel": "rows"}', {}),
        (body()[:-1] + b', "inputs": [[1]]}', {}),
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
        slowed(server, model, 1, monkeypatch)
        before = seconds()
        with ThreadPoolExecutor(2) as clients:
            assert sorted(clients.map(lambda _: asked(), range(2))) == [200, 503]
        assert 1.5 < seconds() - before < 10  # a second each, but for the time until the first was taken
