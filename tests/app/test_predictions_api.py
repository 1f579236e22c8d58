"""`/predictions`: what is refused, what is answered, and the file. No worker runs; the tests do what one would."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.app.serving import Registered, Running, age, assert_problem
from workers import job_queries, jobs, predictions
from workers.reports import FinishedPrediction, RowProgress

Register = Callable[..., Registered]


@pytest.fixture
def ask(client: httpx.Client, register: Register) -> Callable[..., httpx.Response]:
    """Ask for a prediction of the digits; keyword arguments replace what is asked, None leaves it out."""
    register(name="asked")

    def post(headers: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
        body = {"model": "asked", "dataset": "digits", **asked}
        given = {name: value for name, value in body.items() if value is not None}
        return client.post("/predictions", json=given, headers=headers)

    return post


def finish(server: Running, prediction: str, content: bytes = b"rows") -> str:
    """What a worker does at the end. Returns the file's hash."""
    db, store = server.services.database, server.services.store
    claim = jobs.claim(db, prediction, worker="wrk_test", host="here", lease_s=60)
    assert claim is not None
    jobs.record(db, prediction, claim.fence, progress=RowProgress(360, 360), device="cpu")
    with store.scratch() as path:
        path.write_bytes(content)
        artifact = store.adopt(path)
    found = FinishedPrediction(artifact.sha256, artifact.size_bytes, {"accuracy": 0.5}, {"score_s": 1.0})
    assert predictions.finish(db, prediction, claim.fence, found)
    return artifact.sha256


def fail(server: Running, prediction: str) -> None:
    db = server.services.database
    claim = jobs.claim(db, prediction, worker="wrk_test", host="here", lease_s=60)
    assert claim is not None
    told = {"code": "model_deleted", "message": "Model asked@1 was deleted."}
    jobs.attempt_failed(db, prediction, claim.fence, **told, retryable=False, backoff_s=0)


def test_only_model_and_dataset_are_needed(
    client: httpx.Client, server: Running, ask: Callable[..., httpx.Response]
) -> None:
    answer = ask(metadata={"team": "vision"})
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"].startswith("pred_")
    assert answer.headers["location"] == f"/predictions/{made['id']}" == made["urls"]["self"]
    assert made["object"] == "prediction"
    assert (made["status"], made["split"], made["format"], made["top_k"]) == ("queued", "test", "parquet", 1)
    assert (made["return"], made["engine"]) == (["labels"], "torch")
    assert made["model"].keys() == {"name", "version"}
    assert made["model"]["name"] == "asked"
    assert made["dataset"]["name"] == "digits"
    assert made["progress"] == {"rows": None, "total_rows": 270}
    assert made["metadata"] == {"team": "vision"}
    assert (made["result"], made["error"], made["metrics"], made["finished_at"]) == (None, None, {}, None)
    assert client.get(made["urls"]["self"]).json() == made
    assert client.get(made["urls"]["events"]).json()["data"][0]["data"]["status"] == "queued"
    assert client.get(made["urls"]["logs"]).text == ""


@pytest.mark.parametrize(
    ("asked", "pointer", "hints"),
    [
        ({"datset": "digits"}, "/datset", ["dataset"]),
        ({"dataset": "digit"}, "/dataset", ["Did you mean 'digits'?"]),
        ({"dataset": None}, "/dataset", ["required"]),
        ({"model": None}, "/model", ["required"]),
        ({"split": "tset"}, "/split", ["Did you mean 'test'?"]),
        ({"engine": "openvino"}, "/engine", ["torch"]),
        ({"format": "parket"}, "/format", ["Did you mean 'parquet'?"]),
        ({"format": "csv"}, "/format", ["parquet", "jsonl"]),
        ({"return": ["label"]}, "/return/0", ["Did you mean 'labels'?"]),
        ({"return": []}, "/return", []),
        ({"top_k": 0}, "/top_k", []),
        ({"top_k": "1"}, "/top_k", []),
        ({"metadata": {"a": [1]}}, None, []),
        ({"dataset": "diabetes"}, "/dataset", ["image-classification", "tabular-regression"]),
        ({"rows": 3}, "/rows", []),
        ({"precision": "bfloat16"}, "/precision", []),
    ],
)
def test_what_does_not_fit_is_refused_and_named(
    ask: Callable[..., httpx.Response], asked: dict[str, Any], pointer: str | None, hints: list[str]
) -> None:
    assert_problem(ask(**asked), 422, pointer, *hints)


def test_an_unknown_model_is_a_field_at_fault_as_an_unknown_dataset_is(
    ask: Callable[..., httpx.Response],
) -> None:
    answer = ask(model="askd")
    assert_problem(answer, 422, "/model", "Did you mean 'asked'?")
    assert answer.json()["code"] == "unknown_model"
    assert_problem(ask(model="asked@9999"), 422, "/model")
    assert_problem(ask(model="asked@none"), 422, "/model")


def test_a_reference_is_the_version_that_it_means_now(
    client: httpx.Client, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    first, second = register(name="moving"), register(name="moving", seed=1)
    client.put("/models/moving/aliases/best", json={"version": first.version})
    made = ask(model="moving@best").json()
    client.put("/models/moving/aliases/best", json={"version": second.version})
    assert client.get(made["urls"]["self"]).json()["model"] == {"name": "moving", "version": first.version}
    assert ask(model="moving@best").json()["model"]["version"] == second.version
    assert ask(model=first.job_id).json()["model"]["version"] == first.version


def test_auto_is_the_framework_that_trained_it(
    server: Running, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    register(name="by-jax", framework="jax")
    assert ask(model="by-jax").json()["engine"] == "jax"
    assert ask(model="by-jax", engine="torch").json()["engine"] == "torch"
    on_torch = ask(model="by-jax", engine="torch").json()["id"]
    assert job_queries.get(server.services.database, on_torch).framework == "torch"


def test_the_same_key_makes_one(ask: Callable[..., httpx.Response]) -> None:
    key = {"Idempotency-Key": "score-once"}
    first, again = ask(key), ask(key)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(ask(key, split="all"), 422, "/headers/idempotency-key")


def test_predictions_are_listed_and_filtered(
    client: httpx.Client, server: Running, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    register(name="listed")
    made = [ask(model="listed").json()["id"] for _ in range(3)]
    register(name="other-dataset", dataset="diabetes")
    other = ask(model="other-dataset", dataset="diabetes").json()["id"]
    client.post(f"/predictions/{made[0]}/cancel")

    def ids(**query: Any) -> list[str]:
        return [one["id"] for one in client.get("/predictions", params=query).json()["data"]]

    assert ids(model="listed") == made[::-1]
    assert ids(model="listed", order="asc", limit=1) == made[:1]
    assert ids(model="listed", after=made[1]) == made[:1]
    assert ids(model="listed", status="cancelled") == made[:1]
    assert ids(dataset="diabetes") == [other]
    assert_problem(client.get("/predictions", params={"after": "pred_none"}), 422, "/after")
    assert_problem(client.get("/predictions", params={"modl": "x"}), 422, "/modl", "model")


def test_jobs_and_predictions_are_not_each_others(
    client: httpx.Client, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    job = register(name="apart").job_id
    prediction = ask(model="apart").json()["id"]
    for part in ("", "/events", "/logs", "/metrics", "/checkpoints"):
        assert_problem(client.get(f"/jobs/{prediction}{part}"), 404, None, "GET /jobs lists them")
    for part in ("", "/events", "/logs", "/result"):
        assert_problem(client.get(f"/predictions/{job}{part}"), 404, None, "GET /predictions lists them")
    live = {"Accept": "text/event-stream"}
    assert_problem(client.get(f"/jobs/{prediction}/events", headers=live), 404)
    assert_problem(client.get(f"/predictions/{job}/events", headers=live), 404)
    for action in ("cancel", "retry"):
        assert_problem(client.post(f"/jobs/{prediction}/{action}"), 404)
        assert_problem(client.post(f"/predictions/{job}/{action}"), 404)
    assert_problem(client.delete(f"/predictions/{job}"), 404)
    assert prediction not in client.get("/jobs", params={"limit": 200}).text
    assert job not in client.get("/predictions", params={"limit": 200}).text
    assert_problem(client.get("/jobs", params={"after": prediction}), 422, "/after")
    start = {"framework": "torch", "dataset": "digits", "model": {"architecture": "linear"}}
    training = {"epochs": 1, "optimizer": {"name": "adam"}}
    body = {**start, "training": training, "init": {"from": {"job": prediction}}}
    assert_problem(client.post("/jobs", json=body), 422, "/init/from/job")
    assert_problem(ask(model=prediction), 422, "/model")


def test_predictions_are_counted_apart_from_jobs(
    client: httpx.Client, ask: Callable[..., httpx.Response]
) -> None:
    def queued(metric: str) -> float:
        start = f'{metric}{{framework="torch",status="queued"}} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    jobs_before, before = queued("tandem_jobs"), queued("tandem_dataset_predictions")
    ask()
    assert queued("tandem_dataset_predictions") == before + 1
    assert queued("tandem_jobs") == jobs_before


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("parquet", "application/vnd.apache.parquet"), ("jsonl", "application/x-ndjson")],
)
def test_the_result_is_downloaded_whole_and_in_ranges(
    client: httpx.Client,
    server: Running,
    ask: Callable[..., httpx.Response],
    format: str,
    media_type: str,
) -> None:
    made = ask(format=format, split="all").json()
    sha256 = finish(server, made["id"], b"0123456789")
    done = client.get(made["urls"]["self"]).json()
    assert done["status"] == "succeeded"
    url = made["urls"]["result"]
    assert done["result"] == {"sha256": sha256, "size_bytes": 10, "rows": 1797, "url": url}
    assert done["metrics"] == {"accuracy": 0.5}
    assert done["progress"]["rows"] == 360
    answer = client.get(url)
    assert answer.content == b"0123456789"
    assert answer.headers["content-type"] == media_type
    assert answer.headers["etag"] == f'"{sha256}"'
    version = done["model"]["version"]
    filename = f"asked-{version}-digits-all.{format}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{filename}"'
    part = client.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert_problem(client.get(url, headers={"Range": "bytes=99-"}), 416)
    assert client.get(url, headers={"If-None-Match": f'"{sha256}"'}).status_code == 304


def test_a_result_that_is_not_there_says_why(
    client: httpx.Client, server: Running, ask: Callable[..., httpx.Response]
) -> None:
    queued, failed, cancelled, lost = (ask().json()["id"] for _ in range(4))
    fail(server, failed)
    client.post(f"/predictions/{cancelled}/cancel")
    age(server, sha256 := finish(server, lost, b"to be lost"))
    server.services.store.delete(sha256)
    assert_problem(client.get(f"/predictions/{queued}/result"), 409, None, "queued", "no result yet")
    assert_problem(client.get(f"/predictions/{failed}/result"), 409, None, "Model asked@1 was deleted.")
    assert_problem(client.get(f"/predictions/{cancelled}/result"), 409, None, "cancelled", "/retry")
    assert_problem(client.get(f"/predictions/{lost}/result"), 503, None, "lost")
    assert_problem(client.get("/predictions/none/result"), 404)
    error = client.get(f"/predictions/{failed}").json()["error"]
    assert error == {"code": "model_deleted", "message": "Model asked@1 was deleted."}


def test_a_queued_one_is_cancelled_at_once_and_can_be_retried(
    client: httpx.Client, server: Running, ask: Callable[..., httpx.Response]
) -> None:
    made = ask(split="train", metadata={"a": 1}).json()
    for _ in range(2):
        assert client.post(made["urls"]["cancel"]).json()["status"] == "cancelled"
    again = client.post(made["urls"]["retry"], headers={"Idempotency-Key": "retry-once"})
    assert again.status_code == 201
    told = again.json()
    assert again.headers["location"] == f"/predictions/{told['id']}"
    assert told["id"] != made["id"]
    assert told["resumed_from"] == made["id"]
    same = ("model", "engine", "dataset", "split", "format", "return", "top_k", "metadata")
    assert {name: told[name] for name in same} == {name: made[name] for name in same}
    replayed = client.post(made["urls"]["retry"], headers={"Idempotency-Key": "retry-once"})
    assert replayed.json()["id"] == told["id"]
    assert_problem(client.post(told["urls"]["retry"]), 409, None, "prediction", "queued")
    finish(server, told["id"])
    assert_problem(client.post(told["urls"]["cancel"]), 409, None, "succeeded")
    assert_problem(client.post(told["urls"]["retry"]), 409, None, "succeeded")


def test_one_whose_version_was_deleted_is_not_retried(
    client: httpx.Client, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    register(name="short-lived")
    made = ask(model="short-lived").json()
    client.post(made["urls"]["cancel"])
    client.delete("/models/short-lived/versions/1")
    answer = client.post(made["urls"]["retry"])
    assert_problem(answer, 409, "/model", "Model 'short-lived@1' was deleted; ask for a new prediction")
    assert answer.json()["code"] == "model_deleted"


def test_a_prediction_that_has_ended_is_deleted_with_its_file(
    client: httpx.Client, server: Running, ask: Callable[..., httpx.Response]
) -> None:
    made = ask().json()
    assert_problem(client.delete(made["urls"]["self"]), 409, None, "cancel it first")
    sha256 = finish(server, made["id"], b"to be deleted")
    age(server, sha256)
    assert client.delete(made["urls"]["self"]).json() == {
        "id": made["id"],
        "object": "prediction",
        "deleted": True,
    }
    assert not server.services.store.exists(sha256)
    assert_problem(client.get(made["urls"]["self"]), 404)
    assert_problem(client.delete(made["urls"]["self"]), 404)


def test_a_dataset_that_a_prediction_waits_for_stays(
    client: httpx.Client, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    rows = "a,b,kind\n" + "".join(f"{i},{i % 7},{'x' if i % 2 else 'y'}\n" for i in range(60))
    form = {"name": "held", "task": "tabular-classification", "target": "kind"}
    assert client.post("/datasets", data=form, files={"file": ("held.csv", rows)}).status_code == 201
    register(name="on-held", dataset="held")
    made = ask(model="on-held", dataset="held").json()
    assert_problem(client.delete("/datasets/held"), 409, None, f"Prediction {made['id']} needs")
    client.post(made["urls"]["cancel"])
    assert client.delete("/datasets/held").status_code == 200
    assert_problem(client.post(made["urls"]["retry"]), 404, "/dataset", "deleted")


def test_a_table_with_other_columns_is_refused_and_the_column_named(
    client: httpx.Client, register: Register, ask: Callable[..., httpx.Response]
) -> None:
    def upload(name: str, header: str, row: Callable[[int], str]) -> None:
        text = header + "".join(row(i) for i in range(60))
        form = {"name": name, "task": "tabular-classification", "target": "kind"}
        answer = client.post("/datasets", data=form, files={"file": (f"{name}.csv", text)})
        assert answer.status_code == 201, answer.text

    upload("table", "a,colour,kind\n", lambda i: f"{i},{'red' if i % 3 else 'blue'},{i % 2}\n")
    upload("turned", "colour,a,kind\n", lambda i: f"{'blue' if i % 3 else 'green'},{i},{i % 2}\n")
    upload("other", "a,color,kind\n", lambda i: f"{i},{'red' if i % 3 else 'blue'},{i % 2}\n")
    upload("less", "a,kind\n", lambda i: f"{i},{i % 2}\n")
    upload(
        "gaps", "a,colour,kind\n", lambda i: f"{i if i % 5 else ''},{'red' if i % 3 else 'blue'},{i % 2}\n"
    )
    upload("kinds", "a,colour,kind\n", lambda i: f"{i},{i % 3},{i % 2}\n")
    register(name="of-table", dataset="table", model={"architecture": "mlp", "hidden": [4]})
    assert ask(model="of-table", dataset="turned").status_code == 201
    assert_problem(ask(model="of-table", dataset="other"), 422, "/dataset", "'color'", "'colour'")
    assert_problem(ask(model="of-table", dataset="less"), 422, "/dataset", "lacks", "'colour'")
    assert_problem(ask(model="of-table", dataset="gaps"), 422, "/dataset", "missing", "'a'")
    assert_problem(ask(model="of-table", dataset="kinds"), 422, "/dataset", "'colour'", "numeric")


def test_events_are_streamed_until_done(
    client: httpx.Client, server: Running, ask: Callable[..., httpx.Response]
) -> None:
    made = ask().json()
    finish(server, made["id"])
    with client.stream("GET", made["urls"]["events"], headers={"Accept": "text/event-stream"}) as answer:
        text = answer.read().decode()
    assert 'event: progress\ndata: {"rows":360,"total_rows":360}' in text.replace("\r", "")
    assert text.rstrip().splitlines()[-2] == "event: done"
    page = client.get(made["urls"]["events"], params={"after": 1, "limit": 1}).json()
    assert page["has_more"]
    assert len(page["data"]) == 1
