"""Jobs over HTTP. What a worker would do is done by the same transitions that it uses."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.submission import settled
from models.job import JobSpec
from tests.app.serving import Registered, Running, assert_problem
from workers import jobs
from workers.identifiers import new_id
from workers.jobs import Claim
from workers.reports import Checkpoint, LogLines, Metrics, Progress

Register = Callable[..., Registered]
GOOD: dict[str, Any] = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "linear"},
    "training": {"epochs": 2},
}


def created(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/jobs", json=GOOD | changes)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


def claimed(server: Running, job_id: str) -> Claim:
    claim = jobs.claim(server.services.database, job_id, worker="wrk_1", host="here", lease_s=60)
    assert claim is not None
    return claim


def test_a_job_is_created_with_every_default_filled_in(client: httpx.Client) -> None:
    answer = client.post("/jobs", json=GOOD | {"metadata": {"team": "vision", "n": 3}})
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["object"] == "job"
    assert job["status"] == "queued"
    assert job["name"] == job["spec"]["name"] == "digits-linear"
    assert job["metadata"] == {"team": "vision", "n": 3}
    assert job["dataset"]["name"] == "digits"
    assert job["progress"] == {"epoch": None, "epochs": None, "step": None, "total_steps": None}
    assert job["result"] is job["error"] is job["started_at"] is None
    training = job["spec"]["training"]
    assert training["optimizer"]["name"] == "adam"
    assert training["batch_size"] == 64
    assert job["spec"]["init"] == {"from": "scratch"}
    assert datetime.fromisoformat(job["created_at"]).utcoffset() is not None
    assert client.get(answer.headers["location"]).json() == job
    assert client.get(job["urls"]["events"]).status_code == 200


def test_a_dead_broker_delays_no_answer(client: httpx.Client) -> None:
    began = time.monotonic()
    created(client)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("changes", "pointer", "hint"),
    [
        ({"dataset": "digts"}, "/dataset", "Did you mean 'digits'?"),
        ({"dataset": "ds_0000000000000000000000000z"}, "/dataset", "no dataset"),
        ({"model": {"architecture": "lenear"}}, "/model/architecture", "Did you mean 'linear'?"),
        (
            {"model": {"architecture": "cnn"}, "dataset": "diabetes"},
            "/model/architecture",
            "tabular-regression",
        ),
        ({"model": {"architecture": "cnn", "stages": 4}}, "/model/stages", "at most 3"),
        ({"training": {}}, "/training", "'epochs' or 'max_steps'"),
        ({"training": {"epochs": 1, "batch_size": 5000}}, "/training/batch_size", "at most 1374"),
        (
            {"training": {"epochs": 1, "augment": ["flip"]}, "dataset": "diabetes"},
            "/training/augment",
            "tables",
        ),
        (
            {"training": {"epochs": 1, "label_smoothing": 0.1}, "dataset": "diabetes"},
            "/training/label_smoothing",
            "regression",
        ),
        (
            {"training": {"epochs": 1, "early_stopping": {"metric": "validation_r2"}}},
            "/training/early_stopping/metric",
            "validation_accuracy",
        ),
        ({"name": new_id("job")}, "/name", "choose another name"),
        ({"init": {"from": {"model": "nothing@1"}}}, "/init/from/model", "no model 'nothing'"),
        ({"init": {"from": {"job": "job_nothing"}}}, "/init/from/job", "no job 'job_nothing'"),
        ({"frameworks": ["torch"]}, "/frameworks", "Did you mean 'framework'?"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(
    client: httpx.Client, changes: dict[str, Any], pointer: str, hint: str
) -> None:
    before = client.get("/jobs").json()["first_id"]
    assert_problem(client.post("/jobs", json=GOOD | changes), 422, pointer, hint)
    assert client.get("/jobs").json()["first_id"] == before


def test_a_job_that_had_an_ids_name_before_that_was_refused_can_be_retried(
    client: httpx.Client, server: Running
) -> None:
    db, name = server.services.database, new_id("job")
    spec, dataset = settled(db, JobSpec.model_validate_json(json.dumps(GOOD)))
    old = jobs.create(db, spec.model_copy(update={"name": name}), dataset, max_attempts=1)
    client.post(f"/jobs/{old.id}/cancel")
    assert client.post(f"/jobs/{old.id}/retry").json()["name"] == name


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{\x00}\x00", 400),
        (b"\xef\xbb\xbf{}", 400),
        (json.dumps(GOOD).encode("utf-16"), 400),
        (json.dumps(GOOD).replace("2", "NaN").encode(), 422),
        (json.dumps(GOOD).replace("2", "1e400").encode(), 422),
        (json.dumps(GOOD).replace("digits", "\\ud800").encode(), 422),
        (json.dumps(GOOD).replace('"epochs": 2', '"epochs": 2, "epochs": 3').encode(), 422),
        (b"[" * 1000 + b"]" * 1000, 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"text"', 422),
    ],
)
def test_what_is_not_a_json_object_is_refused(client: httpx.Client, body: bytes, status: int) -> None:
    assert_problem(client.post("/jobs", content=body, headers={"Content-Type": "application/json"}), status)


def test_json_needs_no_content_type_but_no_other_either(client: httpx.Client) -> None:
    body = json.dumps(GOOD).encode()
    assert client.post("/jobs", content=body).status_code == 201
    for declared in ("text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/jobs", content=body, headers={"Content-Type": declared})
        assert_problem(answer, 415, "/headers/content-type", "application/json")


def test_the_same_key_and_body_give_the_same_job(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "same-body"}
    first = client.post("/jobs", json=GOOD, headers=headers)
    again = client.post("/jobs", json=GOOD, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


def test_the_same_key_with_another_body_is_refused(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "other-body"}
    client.post("/jobs", json=GOOD, headers=headers)
    answer = client.post("/jobs", json=GOOD | {"name": "other"}, headers=headers)
    assert_problem(answer, 422, "/headers/idempotency-key", "another request")
    assert answer.json()["code"] == "idempotency_key_reused"


def test_a_key_of_a_refused_request_can_be_used_again(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "refused-first"}
    assert client.post("/jobs", json=GOOD | {"dataset": "nope"}, headers=headers).status_code == 422
    assert client.post("/jobs", json=GOOD, headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_an_unusable_key_is_refused(client: httpx.Client, key: str) -> None:
    answer = client.post("/jobs", json=GOOD, headers={"Idempotency-Key": key})
    assert_problem(answer, 422, "/headers/idempotency-key")


def test_concurrent_requests_with_one_key_make_one_job(client: httpx.Client) -> None:
    barrier = threading.Barrier(8)

    def post(_: int) -> httpx.Response:
        barrier.wait()
        return client.post("/jobs", json=GOOD | {"name": "once"}, headers={"Idempotency-Key": "concurrent"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 409)
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(client.get("/jobs?name=once").json()["data"]) == 1


def test_pages_follow_each_other_without_gap_or_repetition(client: httpx.Client) -> None:
    ids = [created(client, name="paged")["id"] for _ in range(5)]
    for order, expected in (("desc", ids[::-1]), ("asc", ids)):
        seen: list[str] = []
        query: dict[str, Any] = {"name": "paged", "limit": 2, "order": order}
        while True:
            page = client.get("/jobs", params=query).json()
            assert page["object"] == "list"
            found = [job["id"] for job in page["data"]]
            assert (page["first_id"], page["last_id"]) == (found[0], found[-1])
            seen += found
            if not page["has_more"]:
                break
            query["after"] = page["last_id"]
        assert seen == expected


def test_an_empty_page_has_no_ids(client: httpx.Client) -> None:
    page = client.get("/jobs?name=never-used").json()
    assert page == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def test_jobs_are_filtered(client: httpx.Client) -> None:
    torch = created(client, name="filtered")["id"]
    jax = created(client, name="filtered", framework="jax", dataset="diabetes")["id"]
    client.post(f"/jobs/{jax}/cancel")

    def found(query: str) -> set[str]:
        return {job["id"] for job in client.get(f"/jobs?name=filtered&{query}").json()["data"]}

    assert found("framework=torch") == found("dataset=digits") == found("status=queued") == {torch}
    assert found("framework=jax") == found("dataset=diabetes") == found("status=cancelled") == {jax}
    assert_problem(client.get("/jobs?status=runing"), 422, "/status", "Did you mean 'running'?")
    assert_problem(client.get("/jobs?state=running"), 422, "/state", "Unknown field 'state'")


def test_an_unknown_job_is_not_found(client: httpx.Client) -> None:
    for method, part in [
        ("GET", ""),
        *(("GET", f"/{part}") for part in ("events", "metrics", "logs", "checkpoints")),
    ]:
        assert_problem(client.request(method, f"/jobs/job_nope{part}"), 404, None, "job_nope")
    for part in ("cancel", "retry"):
        assert_problem(client.post(f"/jobs/job_nope/{part}"), 404, None, "job_nope")
    stream = client.get("/jobs/job_nope/events", headers={"Accept": "text/event-stream"})
    assert_problem(stream, 404, None, "job_nope")


def test_cancel_twice_is_the_same_but_not_after_the_end(client: httpx.Client, register: Register) -> None:
    job = created(client)
    first = client.post(f"/jobs/{job['id']}/cancel")
    assert first.status_code == 200
    assert first.json()["status"] == "cancelled"
    assert client.post(f"/jobs/{job['id']}/cancel").json() == first.json()
    done = register()
    assert_problem(client.post(f"/jobs/{done.job_id}/cancel"), 409, None, "succeeded")


def test_a_running_job_is_asked_to_stop(client: httpx.Client, server: Running) -> None:
    job = created(client)
    claim = claimed(server, job["id"])
    answer = client.post(f"/jobs/{job['id']}/cancel").json()
    assert (answer["status"], answer["cancel_requested"]) == ("running", True)
    assert jobs.cancelled(server.services.database, job["id"], claim.fence)
    assert client.get(f"/jobs/{job['id']}").json()["status"] == "cancelled"


def test_a_failed_job_is_retried_once_per_key(client: httpx.Client, server: Running) -> None:
    job = created(client)
    assert_problem(client.post(f"/jobs/{job['id']}/retry"), 409, None, "queued")
    claim = claimed(server, job["id"])
    jobs.attempt_failed(
        server.services.database, job["id"], claim.fence,
        code="diverged", message="The loss is NaN at step 3.", retryable=False, backoff_s=0,
    )  # fmt: skip
    failed = client.get(f"/jobs/{job['id']}").json()
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "diverged", "message": "The loss is NaN at step 3."}
    headers = {"Idempotency-Key": "retry"}
    first, again = (client.post(f"/jobs/{job['id']}/retry", headers=headers) for _ in range(2))
    assert first.status_code == 201
    assert first.json() == again.json()
    assert first.json()["resumed_from"] == job["id"]
    assert first.json()["id"] != job["id"]
    assert first.headers["location"] == f"/jobs/{first.json()['id']}"


def test_a_finished_job_names_its_model(client: httpx.Client, register: Register) -> None:
    done = register()
    job = client.get(f"/jobs/{done.job_id}").json()
    assert job["status"] == "succeeded"
    assert job["result"] == {"model": done.name, "version": done.version}
    assert client.get(job["urls"]["model"]).json()["job"] == done.job_id


@pytest.fixture(scope="module")
def told(server: Running) -> dict[str, Any]:
    """A running job that has reported everything there is to report."""
    job = created(server.client, name="told")
    database = server.services.database
    claim = claimed(server, job["id"])
    for step in (10, 20, 30):
        jobs.record(
            database,
            job["id"],
            claim.fence,
            phase="training",
            progress=Progress(epoch=step // 10, epochs=3, step=step, total_steps=30),
            reports=(
                LogLines(f"step {step}\n"),
                Metrics(step=step, epoch=step // 10, kind="train", values={"loss": 1 / step}),
                Checkpoint(step=step, epoch=step // 10, folder=f"{job['id']}/1/{step}", size_bytes=100),
            ),
        )
    return {**job, "fence": claim.fence}


def test_a_running_job_shows_its_progress(client: httpx.Client, told: dict[str, Any]) -> None:
    job = client.get(f"/jobs/{told['id']}").json()
    assert job["status"] == "running"
    assert job["phase"] == "training"
    assert job["progress"] == {"epoch": 3, "epochs": 3, "step": 30, "total_steps": 30}
    assert job["metrics"]["train_loss"] == 1 / 30
    assert job["timing"]["queued_s"] >= 0


def test_metrics_are_columns_that_can_be_thinned(client: httpx.Client, told: dict[str, Any]) -> None:
    columns = client.get(f"/jobs/{told['id']}/metrics").json()
    assert columns["step"] == [10, 20, 30]
    assert {type(step) for step in columns["step"]} == {int}
    assert columns["train_loss"] == [1 / 10, 1 / 20, 1 / 30]
    assert client.get(f"/jobs/{told['id']}/metrics?points=2").json()["step"] == [10, 30]
    assert_problem(client.get(f"/jobs/{told['id']}/metrics?points=0"), 422, "/points")


@pytest.mark.parametrize(
    ("part", "parameter", "known"), [("metrics", "point", "points"), ("events", "limt", "limit")]
)
def test_an_unknown_parameter_is_refused(
    client: httpx.Client, told: dict[str, Any], part: str, parameter: str, known: str
) -> None:
    answer = client.get(f"/jobs/{told['id']}/{part}", params={parameter: 2})
    assert_problem(answer, 422, f"/{parameter}", f"Did you mean '{known}'?")


@pytest.mark.parametrize(
    ("training", "field"),
    [({"max_steps": 10**30}, "max_steps"), ({"epochs": 100_000, "batch_size": 1}, "epochs")],
)
def test_a_job_that_would_never_end_is_refused(
    client: httpx.Client, training: dict[str, int], field: str
) -> None:
    answer = client.post("/jobs", json=GOOD | {"training": training})
    assert_problem(answer, 422, f"/training/{field}", "at most 10000000")


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    body, headers = gzip.compress(json.dumps(GOOD).encode()), {"Content-Encoding": "gzip"}
    for path in ("/jobs", "/predict"):
        assert_problem(client.post(path, content=body, headers=headers), 415, "/headers/content-encoding")
    form = {**headers, "Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/datasets", content=body, headers=form), 415, "/headers/content-encoding")


def test_logs_are_text(client: httpx.Client, told: dict[str, Any]) -> None:
    answer = client.get(f"/jobs/{told['id']}/logs")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "step 10\nstep 20\nstep 30\n"


def test_checkpoints_are_listed_newest_first(client: httpx.Client, told: dict[str, Any]) -> None:
    page = client.get(f"/jobs/{told['id']}/checkpoints").json()
    assert [one["step"] for one in page["data"]] == [30, 20, 10]
    assert page["data"][0]["job"] == told["id"]
    assert "folder" not in page["data"][0]
    first = client.get(f"/jobs/{told['id']}/checkpoints?limit=1").json()
    assert ([one["step"] for one in first["data"]], first["has_more"]) == ([30], True)
    oldest = client.get(f"/jobs/{told['id']}/checkpoints?order=asc").json()
    assert [one["step"] for one in oldest["data"]] == [10, 20, 30]


def test_events_come_in_pages(client: httpx.Client, told: dict[str, Any]) -> None:
    url = f"/jobs/{told['id']}/events"
    everything = client.get(url).json()
    ids = [event["id"] for event in everything["data"]]
    assert ids == sorted(ids)
    assert {event["type"] for event in everything["data"]} == {
        "status",
        "progress",
        "log",
        "metric",
        "checkpoint",
    }
    first = client.get(url, params={"limit": 3}).json()
    assert first["has_more"] is True
    rest = client.get(url, params={"after": first["last_id"]}).json()
    assert first["data"] + rest["data"] == everything["data"]


def test_a_checkpoint_can_be_continued_only_by_a_job_that_fits(
    client: httpx.Client, told: dict[str, Any]
) -> None:
    init = {"init": {"from": {"job": told["id"]}}}
    job = created(client, framework="jax", **init)
    assert job["spec"]["init"] == {"from": {"job": told["id"]}}
    for changes, pointer in [
        ({"model": {"architecture": "mlp"}}, "/init/from/job"),
        ({"dataset": "diabetes"}, "/init/from/job"),
        ({"training": {"epochs": 3, "optimizer": {"name": "sgd"}}}, "/training/optimizer"),
    ]:
        assert_problem(client.post("/jobs", json=GOOD | init | changes), 422, pointer)
    bare = created(client)
    answer = client.post("/jobs", json=GOOD | {"init": {"from": {"job": bare["id"]}}})
    assert_problem(answer, 422, "/init/from/job", "no checkpoint")


def test_a_start_model_is_pinned_to_its_version(client: httpx.Client, register: Register) -> None:
    start = register(name="start")
    job = created(client, init={"from": {"model": "start"}})
    assert job["spec"]["init"] == {"from": {"model": f"start@{start.version}"}}
    answer = client.post("/jobs", json=GOOD | {"dataset": "diabetes", "init": {"from": {"model": "start"}}})
    assert_problem(answer, 422, "/init/from/model", "'linear.weight'")


def test_the_stream_replays_then_follows_until_done(
    client: httpx.Client, server: Running, told: dict[str, Any]
) -> None:
    url = f"/jobs/{told['id']}/events"
    past = [event["id"] for event in client.get(url).json()["data"]]
    with _stream(client, url, {"Last-Event-ID": str(past[2])}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = _frames(answer)
        assert [next(frames)["id"] for _ in past[3:]] == past[3:]
        jobs.record(server.services.database, told["id"], told["fence"], reports=(LogLines("late\n"),))
        assert next(frames)["data"] == {"text": "late\n"}
        client.post(f"{url.removesuffix('/events')}/cancel")
        jobs.cancelled(server.services.database, told["id"], told["fence"])
        rest = list(frames)
    assert rest[-1]["event"] == "done"
    assert rest[-1]["data"] == {"status": "cancelled"}
    assert [frame["id"] for frame in rest] == sorted(frame["id"] for frame in rest)
    last = rest[-1]["id"]
    with _stream(client, f"{url}?after={last - 1}", {}) as answer:
        assert [frame["id"] for frame in _frames(answer)] == [last]
    with _stream(client, url, {"Last-Event-ID": str(last)}) as answer:
        assert answer.status_code == 204


@pytest.mark.parametrize(
    ("accept", "is_live"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("text/event-stream, */*", True),
        ("application/json, text/event-stream", True),
        ("application/json;q=0.5, text/event-stream;q=0.9", True),
        ("text/*", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;Q=0.000, */*", False),
        ("*/*", False),
        ("text/event-streams", False),
        ("", False),
    ],
)
def test_events_are_live_for_who_would_rather_have_them_so(
    client: httpx.Client, register: Register, accept: str, is_live: bool
) -> None:
    job = register(name="ended").job_id
    answer = client.get(f"/jobs/{job}/events", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream") is is_live


def test_a_client_that_leaves_ends_its_stream(client: httpx.Client, server: Running) -> None:
    job = created(client)
    with _stream(client, f"/jobs/{job['id']}/events", {}) as answer:
        frames = _frames(answer)
        assert next(frames)["event"] == "status"
        assert server.services.streams.open == 1
    deadline = time.monotonic() + 5
    while server.services.streams.open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.services.streams.open == 0


@pytest.mark.parametrize("value", ["x", "-1", str(2**64), "1.5", "9" * 5000])
def test_a_wrong_event_id_is_refused(client: httpx.Client, told: dict[str, Any], value: str) -> None:
    answer = client.get(f"/jobs/{told['id']}/events", headers={"Last-Event-ID": value})
    assert_problem(answer, 422, "/headers/last-event-id")


def _stream(client: httpx.Client, url: str, headers: dict[str, str]) -> Any:
    return client.stream("GET", url, headers={"Accept": "text/event-stream", **headers})


def _frames(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    frame: dict[str, Any] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            frame[name] = int(value) if name == "id" else json.loads(value) if name == "data" else value
        elif frame:
            yield frame
            frame = {}
