"""No request gets a 5xx: requests drawn from the OpenAPI schema, then bent out of shape."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.serving import Running, registered

TEXT = st.text(max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
JOB: dict[str, Any] = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "mlp", "hidden": [8], "activation": "relu"},
    "training": {
        "epochs": 1,
        "batch_size": 8,
        "seed": 1,
        "optimizer": {"name": "adam", "learning_rate": 0.1, "betas": [0.9, 0.99]},
        "schedule": {"name": "step", "every_epochs": 2, "factor": 0.5},
        "augment": ["flip"],
        "early_stopping": {"metric": "validation_loss", "patience": 2},
    },
    "init": {"from": "scratch"},
    "name": "fuzzed",
    "metadata": {"a": 1},
}
PREDICTION: dict[str, Any] = {
    "model": "fuzzed@1",
    "inputs": [[[0] * 8] * 8],
    "engine": "torch",
    "top_k": 2,
    "return": ["labels", "logits"],
}
SCORING: dict[str, Any] = {
    "model": "fuzzed@1",
    "dataset": "digits",
    "split": "all",
    "engine": "jax",
    "top_k": 2,
    "return": ["labels", "logits"],
    "format": "jsonl",
    "metadata": {"a": 1},
}
LIGHTLY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def model(server: Running) -> None:
    registered(server.services, name="fuzzed")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def bent(good: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The same value with another one at this place."""
    if not path:
        return other
    copy: Any = dict(good) if isinstance(good, dict) else list(good)
    copy[path[0]] = bent(good[path[0]], path[1:], other)
    return copy


def bent_out_of_shape(good: Any) -> st.SearchStrategy[Any]:
    return st.builds(bent, st.just(good), st.sampled_from(places(good)), JSON)


def assert_answered(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


@LIGHTLY
@given(bent_out_of_shape(JOB))
def test_no_bent_job_breaks_anything(client: httpx.Client, body: Any) -> None:
    assert_answered(client.post("/jobs", content=json.dumps(body).encode()))


@LIGHTLY
@given(bent_out_of_shape(PREDICTION))
def test_no_bent_prediction_breaks_anything(client: httpx.Client, body: Any) -> None:
    assert_answered(client.post("/predict", content=json.dumps(body).encode()))


@LIGHTLY
@given(bent_out_of_shape(SCORING))
def test_no_bent_prediction_of_a_dataset_breaks_anything(client: httpx.Client, body: Any) -> None:
    assert_answered(client.post("/predictions", content=json.dumps(body).encode()))


@LIGHTLY
@given(
    st.binary(max_size=64),
    st.sampled_from(["/jobs", "/predict", "/predictions", "/models/fuzzed/aliases/a", "/datasets"]),
)
def test_no_bytes_break_anything(client: httpx.Client, body: bytes, path: str) -> None:
    method = "PUT" if "aliases" in path else "POST"
    for declared in ("application/json", "multipart/form-data; boundary=x", "image/png"):
        assert_answered(client.request(method, path, content=body, headers={"Content-Type": declared}))


@LIGHTLY
@given(
    st.sampled_from(
        [
            "/jobs/{}", "/jobs/{}/events", "/jobs/{}/metrics", "/jobs/{}/logs", "/datasets/{}", "/models/{}",
            "/predictions/{}", "/predictions/{}/events", "/predictions/{}/logs", "/predictions/{}/result",
            "/models/{}/versions/1", "/models/fuzzed/versions/{}", "/models/fuzzed/versions/{}/weights", "/{}",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)  # fmt: skip
def test_no_address_breaks_anything(client: httpx.Client, template: str, part: str) -> None:
    assert_answered(client.get(template.format(quote(part, safe=""))))


@LIGHTLY
@given(
    st.sampled_from(
        ["/jobs", "/datasets", "/models", "/workers", "/jobs/x/metrics", "/jobs/x/events", "/predictions"]
    ),
    st.dictionaries(
        st.sampled_from(
            ["limit", "after", "order", "status", "framework", "dataset", "name", "model", "points", "odd"]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.integers().map(str),
        max_size=4,
    ),
)
def test_no_query_breaks_anything(client: httpx.Client, path: str, query: dict[str, str]) -> None:
    assert_answered(client.get(path, params=query))


@LIGHTLY
@given(
    st.dictionaries(
        st.sampled_from(
            ["Idempotency-Key", "X-Request-Id", "Last-Event-ID", "Accept", "Content-Type", "Range", "If-None-Match"]
        ),
        st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte > 32 and byte != 127)),
    )
)  # fmt: skip
def test_no_header_breaks_anything(client: httpx.Client, headers: dict[str, bytes]) -> None:
    job = client.post("/jobs", json=JOB | {"dataset": "unknown"}, headers=headers)
    assert_answered(job)
    assert_answered(client.get("/jobs/none/events", headers=headers))
    assert_answered(client.get("/models/fuzzed/versions/1/weights", headers=headers))
