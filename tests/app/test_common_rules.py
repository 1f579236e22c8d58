"""What holds for every address: errors, request ids, headers, methods, lists."""

import json
import re
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.main import create_app
from tests.app.serving import Running, assert_problem, registered, running, settings_in
from workers.identifiers import new_id
from workers.settings import Settings

SINGULAR = dict.fromkeys(("x-request-id", "date"), "")
"""Headers that differ from answer to answer."""


def test_an_unknown_address_is_a_problem_with_the_nearest_one(client: httpx.Client) -> None:
    assert_problem(client.get("/dataset"), 404, None, "Did you mean '/datasets'?")
    assert_problem(client.get("/no/such/thing"), 404, None, "GET /openapi.json")


def test_the_error_in_the_documents_is_what_a_server_says(client: httpx.Client) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    shown = json.loads(page.partition("## Errors")[2].partition("```json")[2].partition("```")[0])
    request_id = {"X-Request-Id": shown["request_id"]}
    job = {
        "dataset": "digit",
        "framework": "torch",
        "model": {"architecture": "cnn"},
        "training": {"epochs": 1},
    }
    assert client.post("/jobs", json=job, headers=request_id).json() == {
        **shown,
        "title": HTTPStatus(422).phrase,
    }


def test_a_wrong_method_says_which_are_right(client: httpx.Client) -> None:
    answer = client.put("/models/some-model/versions/1")
    assert_problem(answer, 405, None, "PUT does not work here; DELETE, GET, HEAD and PATCH do.")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert_problem(client.put("/predict"), 405, None, "PUT does not work here; POST does.")


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/v2/health/live", "/v2", "/jobs", "/datasets/digits", "/docs",
     "/openapi.json", "/datasets/none", "/nowhere"],
)  # fmt: skip
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert {**head.headers, **SINGULAR} == {**get.headers, **SINGULAR}
    assert head.headers["content-length"] == str(len(get.content))


def test_head_where_there_is_no_get_says_what_there_is(client: httpx.Client) -> None:
    answer = client.head("/predict")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


def test_head_of_a_file_reads_none_of_it_and_knows_no_ranges(server: Running) -> None:
    model = registered(server.services, name="asked-about")
    url = "/models/asked-about/versions/1/weights"
    whole = server.client.get(url)
    answer = server.client.head(url, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(whole.content))
    assert answer.headers["etag"] == f'"{model.sha256}"'
    assert server.client.head(url, headers={"If-None-Match": "*"}).status_code == 304


def test_head_of_a_stream_begins_none(server: Running) -> None:
    job = registered(server.services, name="streamed").job_id
    live = {"Accept": "text/event-stream"}
    answer = server.client.head(f"/jobs/{job}/events", headers=live)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert server.services.streams.open == 0
    assert server.client.get("/healthz").status_code == 200  # on the same connection


def test_head_is_counted_by_route_template(server: Running) -> None:
    assert server.client.head("/metrics").status_code == 200
    series = 'tandem_http_requests_total{method="HEAD",process="0",route="/metrics",status="200"} 1.0'
    assert series in server.client.get("/metrics").text


def test_head_is_in_no_description(client: httpx.Client) -> None:
    assert not any(
        "head" in operations for operations in client.get("/openapi.json").json()["paths"].values()
    )


def test_every_answer_has_a_request_id_of_its_own(client: httpx.Client) -> None:
    first, second = (client.get(path).headers["x-request-id"] for path in ("/jobs", "/nowhere"))
    assert re.fullmatch(r"req_[0-9a-z]{26}", first)
    assert first != second


def test_a_request_id_that_was_sent_comes_back(client: httpx.Client) -> None:
    answer = client.get("/nowhere", headers={"X-Request-Id": "trace-1234"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "trace-1234"


@pytest.mark.parametrize("unusable", ["x" * 200, "two words", "é"])
def test_an_unusable_request_id_is_replaced(client: httpx.Client, unusable: str) -> None:
    answer = client.get("/jobs", headers={"X-Request-Id": unusable.encode()})
    assert answer.headers["x-request-id"].startswith("req_")


def test_browsers_are_told_to_be_careful(client: httpx.Client) -> None:
    for path in ("/jobs", "/nowhere", "/healthz"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/jobs", "/datasets", "/models", "/workers"])
@pytest.mark.parametrize(
    ("query", "pointer", "hint"),
    [
        ("limit=0", "/limit", "greater than or equal to 1"),
        ("limit=201", "/limit", "less than or equal to 200"),
        ("limit=many", "/limit", "valid integer"),
        ("order=newest", "/order", "Known: asc, desc"),
        ("limt=5", "/limt", "Did you mean 'limit'?"),
        ("after=nothing-here", "/after", "nothing-here"),
    ],
)
def test_wrong_paging_is_explained(
    client: httpx.Client, path: str, query: str, pointer: str, hint: str
) -> None:
    assert_problem(client.get(f"{path}?{query}"), 422, pointer, hint)


@pytest.mark.parametrize(
    ("path", "prefix"), [("/jobs", "job"), ("/predictions", "pred"), ("/workers", "wrk")]
)
def test_a_page_may_follow_what_is_gone(client: httpx.Client, path: str, prefix: str) -> None:
    assert client.get(path, params={"after": new_id(prefix)}).status_code == 200
    assert_problem(client.get(path, params={"after": new_id("ds")}), 422, "/after", "last_id")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/none"), ("GET", "/jobs/none/logs"), ("POST", "/jobs"), ("POST", "/jobs/none/cancel"),
        ("POST", "/jobs/none/retry"), ("GET", "/datasets/digits"), ("DELETE", "/datasets/digits"),
        ("POST", "/datasets"), ("GET", "/models/none"), ("GET", "/models/none/versions/1/weights"), ("POST", "/models"),
        ("PUT", "/models/none/aliases/a"), ("GET", "/predictions/none/result"), ("GET", "/comparisons/none/report"),
    ],
)  # fmt: skip
def test_a_parameter_that_an_address_does_not_take_is_refused(
    client: httpx.Client, method: str, path: str
) -> None:
    answer = client.request(method, f"{path}?tail=1")
    assert_problem(answer, 422, "/tail", "Unknown field 'tail'. The address takes no parameters.")
    assert answer.json()["errors"][0]["code"] == "unknown_field"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/healthz", "/metrics", "/v2", "/v2/health/live", "/ui/datasets"]
)
def test_probes_browsers_and_clients_of_the_protocol_may_add_parameters(
    client: httpx.Client, path: str
) -> None:
    assert client.get(f"{path}?tail=1&tail=2").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?limit=1&limit=2",
        "/datasets/digits/preview?limit=1&limit=2",
        "/jobs/none/events?limit=1&limit=1",
    ],
)
def test_a_parameter_that_is_given_twice_is_refused(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert_problem(answer, 422, "/limit", "The field 'limit' is given twice. Give it once.")
    assert answer.json()["errors"][0]["code"] == "duplicate_field"


def test_a_list_of_values_is_written_with_commas(client: httpx.Client) -> None:
    png = {"Content-Type": "image/png"}
    answer = client.post("/predict?model=any&return=labels&return=logits", content=b"x", headers=png)
    assert_problem(answer, 422, "/return", "Give it with commas between its values.")


def test_an_unexpected_error_gives_nothing_away(tmp_path: Path) -> None:
    with running(settings_in(tmp_path), _with_a_bug) as server, capture_logs() as lines:
        answer = server.client.get("/bug")
        assert_problem(answer, 500, None, "request id")
        assert "secret" not in answer.text
        assert "secret" in str(next(line["exc_info"] for line in lines if line["log_level"] == "error"))
        assert server.client.get("/healthz").status_code == 200


def _with_a_bug(settings: Settings) -> FastAPI:
    app = create_app(settings)

    @app.get("/bug")
    def bug() -> None:
        raise RuntimeError("a secret path: /etc/passwd")

    return app


def test_requests_are_counted_by_route_template(server: Running) -> None:
    for name in ("no-such-job", "no-such-job-either"):
        server.client.get(f"/jobs/{name}")
    server.client.request("BREW", "/jobs")
    text = server.client.get("/metrics").text
    assert (
        'tandem_http_requests_total{method="GET",process="0",route="/jobs/{job_id}",status="404"} 2.0' in text
    )
    assert "no-such-job" not in text
    assert "BREW" not in text
    assert "tandem_http_request_seconds_bucket" in text
