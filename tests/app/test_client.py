"""The Python client against a real server."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import pytest

from app import replies
from app.client import Tandem, TandemAPIError
from app.connection import _events
from app.demo import held_out_digits
from app.replies import Job
from app.schemas import engines, models, operations
from app.schemas.paging import Answer
from models.framework import ENGINES, FRAMEWORKS

SPEC = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "linear"},
    "training": {"epochs": 3},
    "name": "client-digits",
}
THREE = Path(__file__).parents[2] / "examples/three.png"


@pytest.fixture
def tandem(tandem_up: str) -> Iterator[Tandem]:
    with Tandem(tandem_up) as client:
        yield client


@pytest.fixture(scope="module")
def trained(tandem_up: str) -> Job:
    with Tandem(tandem_up) as client:
        job = client.wait(client.create_job(SPEC).id)
    assert job.status == "succeeded", job.error
    return job


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": ping", "", "id: 3", "event: metric", 'data: {"a":', "data: 1}", "", "id: 4", "data: {}"]
    (event,) = _events(iter(lines))  # the last one has not ended yet
    assert (event.id, event.type, event.data) == (3, "metric", {"a": 1})


def test_a_job_is_followed_to_its_end(tandem: Tandem, trained: Job) -> None:
    events = list(tandem.follow(trained.id))
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert events[-1].type == "done"
    assert {"status", "metric"} <= {event.type for event in events}


def test_following_goes_on_after_dropped_connections(tandem: Tandem, trained: Job) -> None:
    with _unreliable(tandem.url, cut_after=1500) as url, Tandem(url) as client:
        assert list(client.follow(trained.id)) == list(tandem.follow(trained.id))


def test_every_form_of_an_image_gets_the_same_answer(tandem: Tandem, trained: Job) -> None:
    held_out = held_out_digits()
    from PIL import Image

    pixels = np.asarray(Image.open(THREE))
    inputs = [THREE, THREE.read_bytes(), pixels, pixels.tolist()]
    answer = tandem.predict(trained.id, inputs, returns=["labels", "logits"])
    assert {found.logits for found in answer.predictions} == {answer.predictions[0].logits}
    assert answer.predictions[0].label in held_out.labels


def test_rows_are_predicted_on_the_engine_asked_for(tandem: Tandem) -> None:
    spec = {
        "framework": "jax",
        "dataset": "diabetes",
        "model": {"architecture": "linear"},
        "training": {"epochs": 3},
    }
    job = tandem.wait(tandem.create_job(spec).id)
    assert job.status == "succeeded", job.error
    answers = [
        tandem.predict(job.id, [[0.01] * 10, np.full(10, 0.01)], engine=engine) for engine in ("torch", "jax")
    ]
    assert [answer.engine for answer in answers] == ["torch", "jax"]
    values = [found.value for answer in answers for found in answer.predictions]
    assert values == pytest.approx([values[0]] * 4, rel=1e-5)


def test_an_alias_is_served_once_set(tandem: Tandem, trained: Job) -> None:
    assert trained.result is not None
    name, version = trained.result.model, trained.result.version
    tandem.set_alias(name, "blessed", version)
    assert tandem.predict(f"{name}@blessed", [THREE]).model.version == version
    assert "blessed" in tandem.model_version(name, version).aliases
    tandem.delete_alias(name, "blessed")
    with pytest.raises(TandemAPIError) as refused:
        tandem.predict(f"{name}@blessed", [THREE])
    assert refused.value.status == 404


def test_how_a_model_is_served_is_told_and_chosen(tandem: Tandem, trained: Job) -> None:
    assert trained.result is not None
    name, version = trained.result.model, trained.result.version
    found = tandem.engines(name, version)
    assert (found.model, found.version) == (name, version)
    measured = {one.name: one for one in found.engines}
    assert measured.keys() | found.unusable.keys() == set(ENGINES)
    assert set(FRAMEWORKS) <= measured.keys()
    assert found.choice in measured
    assert measured[found.choice].agrees
    assert min(measured[found.choice].latency_ms[size] for size in (1, 8, 32)) > 0

    assert tandem.set_serving(name, {"load": "at_start", "max_batch_rows": 8}).serving.max_batch_rows == 8
    assert tandem.model(name).serving.load == "at_start"
    assert tandem.set_serving(name, {"max_batch_rows": None}).serving.max_batch_rows is None
    assert tandem.set_serving(name, {"load": "on_demand"}).serving.load == "on_demand"
    with pytest.raises(TandemAPIError) as refused:
        tandem.set_serving(name, {"load": "sometimes"})
    assert refused.value.pointer == "/serving/load"

    kept = tandem.set_precision(name, version, "bfloat16").serving
    assert kept.precision == "bfloat16"
    assert max(kept.agreement.values()) >= 0.995
    assert tandem.set_precision(name, version, "float32").serving.precision == "float32"


def test_a_version_and_then_its_model_are_deleted(tandem: Tandem, trained: Job, tmp_path: Path) -> None:
    assert trained.result is not None
    file = tandem.download_weights(trained.result.model, trained.result.version, tmp_path / "w.safetensors")
    for number in (1, 2):
        assert tandem.import_model(file, name="short-lived").version == number
    tandem.set_alias("short-lived", "last", 2)
    gone = tandem.delete_model_version("short-lived", 2)
    assert (gone.versions, gone.aliases) == ((2,), ("last",))
    assert [one.version for one in tandem.model("short-lived").versions] == [1]
    assert tandem.delete_model("short-lived").versions == (1,)
    assert "short-lived" not in {one.name for one in tandem.models()}


def test_workers_say_what_they_are(tandem: Tandem) -> None:
    assert {one.framework for one in tandem.workers()} == set(FRAMEWORKS)


@pytest.mark.parametrize(
    ("reply", "schema"),
    [
        (replies.Model, models.Model),
        (replies.ModelVersion, models.ModelVersion),
        (replies.VersionServing, models.VersionServing),
        (replies.ModelLoading, models.ModelLoading),
        (replies.Deleted, models.Deleted),
        (replies.Engines, engines.Engines),
        (replies.EngineEvidence, engines.Evidence),
        (replies.Worker, operations.Worker),
    ],
)
def test_replies_are_typed_as_they_are_answered(reply: type[replies.Reply], schema: type[Answer]) -> None:
    assert reply.model_fields.keys() <= schema.model_fields.keys()


def test_downloaded_weights_have_torchs_names(tandem: Tandem, trained: Job, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert trained.result is not None
    file = tandem.download_weights(trained.result.model, trained.result.version, tmp_path / "w.safetensors")
    weights = load_file(file)
    assert sum(array.size for array in weights.values()) == 64 * 10 + 10
    assert all(name.endswith((".weight", ".bias")) or name in ("weight", "bias") for name in weights)
    assert list(tmp_path.iterdir()) == [file]


def test_an_upload_is_listed_trained_on_and_deleted(tandem: Tandem, tmp_path: Path) -> None:
    file = tmp_path / "plane.csv"
    rows = np.random.default_rng(0).normal(size=(200, 2))
    file.write_text("a,b,z\n" + "".join(f"{a},{b},{a + 2 * b}\n" for a, b in rows))
    dataset = tandem.upload_dataset(file, name="plane", task="tabular-regression", target="z")
    assert dataset.splits.train + dataset.splits.validation + dataset.splits.test == 200
    assert "plane" in {one.name for one in tandem.datasets()}
    tandem.delete_dataset("plane")
    assert "plane" not in {one.name for one in tandem.datasets()}


def test_jobs_are_listed_newest_first_and_filtered(tandem: Tandem, trained: Job) -> None:
    found = list(tandem.jobs(name=trained.name, limit=1))
    assert [job.name for job in found] == [trained.name]
    assert trained.id in {job.id for job in tandem.jobs(status="succeeded", framework="torch")}


def test_the_same_key_makes_one_job(tandem: Tandem, trained: Job) -> None:
    first, second = (tandem.create_job(SPEC, idempotency_key="test-client-once") for _ in range(2))
    assert first.id == second.id
    assert tandem.wait(first.id).finished


def test_metrics_come_as_columns_of_one_length(tandem: Tandem, trained: Job) -> None:
    columns = tandem.metrics(trained.id, points=10)
    assert "step" in columns
    assert len({len(column) for column in columns.values()}) == 1
    assert tandem.logs(trained.id) is not None


def test_a_refusal_names_the_field_and_the_fix(tandem: Tandem) -> None:
    with pytest.raises(TandemAPIError) as refused:
        tandem.create_job({**SPEC, "dataset": "digit"})
    assert refused.value.status == 422
    assert refused.value.pointer == "/dataset"
    assert "digits" in refused.value.sentence
    assert refused.value.request_id


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with (
        Tandem("http://127.0.0.1:9") as nobody,
        pytest.raises(TandemAPIError, match="does not answer") as refused,
    ):
        nobody.job("job_1")
    assert refused.value.status is None


def test_following_gives_up_when_the_server_stays_away() -> None:
    with Tandem("http://127.0.0.1:9") as nobody, pytest.raises(TandemAPIError, match="does not answer"):
        list(nobody.follow("job_1", patience_s=0.1))


@contextlib.contextmanager
def _unreliable(url: str, cut_after: int) -> Iterator[str]:
    """A way to the server whose connections break after `cut_after` bytes of answer."""
    target = urlsplit(url)
    assert target.hostname
    assert target.port
    door = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def relay(near: socket.socket) -> None:
        with near, socket.create_connection((target.hostname, target.port)) as far:
            far.sendall(near.recv(65536))
            left = cut_after
            while left and (chunk := far.recv(min(left, 4096))):
                near.sendall(chunk)
                left -= len(chunk)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not stopping.is_set():
                relay(door.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join(10)


@pytest.mark.parametrize("name", ["job?limit=1", "job#part", "a job", "100%25"])
def test_an_id_is_asked_for_as_it_is(name: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((unquote(request.url.raw_path.decode()), request.url.query))
        return httpx.Response(404)

    with Tandem(transport=httpx.MockTransport(answer)) as client, pytest.raises(TandemAPIError):
        client.job(name)
    assert asked == [(f"/jobs/{name}", b"")]
