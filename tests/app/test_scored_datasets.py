"""Predictions of whole datasets in real trainers of both frameworks, row by row as `POST /predict` answers."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pyarrow import parquet

from models.data.dataset import SPLITS, Dataset
from models.framework import Framework
from tests.app.serving import Registered, Running
from workers import datasets, trainer_environment
from workers.spares import Spares
from workers.supervisor import Supervisor

pytestmark = pytest.mark.timeout(300)
Register = Callable[..., Registered]
EVERYTHING = {"return": ["labels", "probabilities", "logits"], "top_k": 3}
NETWORK = {"architecture": "cnn", "width": 4, "stages": 2}
LAYERS = {"architecture": "mlp", "hidden": [8]}
WORDS = ("good", "bad", "fine", "awful", "plot", "music", "long", "short", "never", "again")


def compute(server: Running, framework: Framework, prediction: str) -> None:
    """What a worker does with the message."""
    services = server.services
    spares = Spares(
        trainer_environment.command(framework, services.settings),
        trainer_environment.environment(services.settings),
        keep=False,
    )
    supervisor = Supervisor(services.database, services.store, services.settings, spares, "wrk_test")
    supervisor.run(prediction)
    spares.stop()


def scored(server: Running, engine: Framework, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The finished prediction, and the rows of its file."""
    made = server.client.post("/predictions", json={**EVERYTHING, "engine": engine, **asked})
    assert made.status_code == 201, made.text
    compute(server, engine, made.json()["id"])
    done = server.client.get(made.json()["urls"]["self"]).json()
    assert done["status"] == "succeeded", (done["error"], server.client.get(done["urls"]["logs"]).text)
    content = server.client.get(done["urls"]["result"]).content
    if done["format"] == "jsonl":
        return done, [json.loads(line) for line in content.splitlines()]
    return done, parquet.read_table(io.BytesIO(content)).to_pylist()


def samples(server: Running, dataset: str) -> Dataset:
    services = server.services
    return datasets.samples(services.store, datasets.get(services.database, dataset))


def predicted(client: httpx.Client, model: str, engine: str, inputs: list[Any]) -> list[dict[str, Any]]:
    """What `POST /predict` says of these."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(inputs), 100):
        body = {"model": model, "engine": engine, "inputs": inputs[start : start + 100], **EVERYTHING}
        answer = client.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        found += answer.json()["predictions"]
    return found


def assert_same(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(rows) == len(expected)
    assert expected[0] != expected[1]  # a network that says the same of everything would prove nothing
    for row, answer in zip(rows, expected, strict=True):
        assert row.keys() == {"row", "split", "target", *answer}
        for name, value in answer.items():
            if name == "top":
                assert [one["label"] for one in row["top"]] == [one["label"] for one in value]
            elif name in ("label", "index"):
                assert row[name] == value
            else:
                np.testing.assert_allclose(row[name], value, rtol=1e-4, atol=1e-5)


def upload(client: httpx.Client, name: str, task: str, file: tuple[str, bytes], **form: str) -> None:
    answer = client.post("/datasets", data={"name": name, "task": task, **form}, files={"file": file})
    assert answer.status_code == 201, answer.text


def text_rows(rows: int) -> bytes:
    generator = np.random.default_rng(0)
    lines = [
        f"{' '.join(generator.choice(WORDS, 1 + i % 12))},{'up' if i % 3 else 'down'}" for i in range(rows)
    ]
    return "\n".join(["text,mood", *lines]).encode()


def table_rows(colours: tuple[str, ...], header: str = "size,colour,old,kind") -> bytes:
    generator = np.random.default_rng(len(colours))
    cells = {
        "size": lambda i: f"{generator.normal():.3f}" if i % 7 else "",
        "colour": lambda i: colours[i % len(colours)],
        "old": lambda i: "true" if i % 2 else "false",
        "kind": lambda i: "abc"[i % 3],
    }
    lines = [",".join(cells[name](i) for name in header.split(",")) for i in range(400)]
    return "\n".join([header, *lines]).encode()


@pytest.fixture(scope="module")
def uploads(server: Running) -> None:
    client = server.client
    upload(client, "moods", "text-classification", ("m.csv", text_rows(700)), text="text", target="mood")
    upload(client, "things", "tabular-classification", ("t.csv", table_rows(("red", "blue"))), target="kind")
    turned = table_rows(("green", "blue", "red"), "old,colour,kind,size")
    upload(client, "turned", "tabular-classification", ("t.csv", turned), target="kind")
    generator = np.random.default_rng(1)
    x = generator.integers(0, 256, (120, 10, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, x=x, y=np.arange(120) % 4)
    upload(client, "colours", "image-classification", ("c.npz", buffer.getvalue()))


def named(held: Any, x: np.ndarray) -> Iterator[dict[str, Any]]:
    """Stored rows of a table as objects by column name."""
    for values in x.tolist():
        row: dict[str, Any] = {}
        for field, value in zip(held.input.fields, values, strict=True):
            if value != value:
                row[field.name] = None
            elif field.kind == "categorical":
                row[field.name] = (*field.categories, *field.unseen)[int(value)]
            else:
                row[field.name] = bool(value) if field.kind == "boolean" else value
        yield row


def inputs_of(dataset: Dataset, split: str) -> list[Any]:
    """The samples of a split as a client would send them."""
    held, x = dataset.description, getattr(dataset, split).x
    if held.input.kind == "text":
        return list(x)
    if held.input.kind == "table" and held.input.fields is not None:
        return list(named(held, x))
    found: list[Any] = x.tolist()
    return found


CASES: dict[str, dict[str, Any]] = {
    "resized": {"dataset": "digits", "model": NETWORK, "preprocess": {"size": [11, 9]}},
    "texts": {"dataset": "moods", "model": {"architecture": "bilstm", "embedding": 8, "hidden": 8}},
    "rows": {"dataset": "things", "model": LAYERS},
    "numbers": {"dataset": "diabetes", "model": LAYERS},
}


@pytest.mark.parametrize(
    ("framework", "case"),
    [*(("torch", case) for case in CASES), ("jax", "texts")],
)
def test_every_row_is_what_predict_says(
    server: Running, uploads: None, register: Register, framework: Framework, case: str
) -> None:
    name = f"{case}-{framework}"
    about = CASES[case]
    register(name=name, framework=framework, **about)
    format = "parquet" if framework == "torch" else "jsonl"
    done, rows = scored(server, framework, model=name, dataset=about["dataset"], format=format)
    dataset = samples(server, about["dataset"])
    assert_same(rows, predicted(server.client, name, framework, inputs_of(dataset, "test")))
    classes = dataset.description.classes
    targets = dataset.test.y.tolist()
    assert [row["target"] for row in rows] == [classes[y] if classes else y for y in targets]
    assert [(row["split"], row["row"]) for row in rows] == [("test", i) for i in range(len(targets))]
    if classes:
        assert done["metrics"].keys() == {"loss", "accuracy"}
        hits = [row["label"] == row["target"] for row in rows]
        assert done["metrics"]["accuracy"] == pytest.approx(np.mean(hits))
        likelihoods = [row["probabilities"][classes.index(row["target"])] for row in rows]
        assert done["metrics"]["loss"] == pytest.approx(-np.mean(np.log(likelihoods)), rel=1e-6)
    else:
        errors = np.array([row["value"] - row["target"] for row in rows])
        assert done["metrics"].keys() == {"rmse", "mae"}
        assert done["metrics"]["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_the_other_engine_computes_it_too(server: Running, register: Register) -> None:
    register(name="either", framework="torch", dataset="digits", model=NETWORK)
    _, by_torch = scored(server, "torch", model="either", dataset="digits", split="all")
    _, by_jax = scored(server, "jax", model="either", dataset="digits", split="all")
    dataset = samples(server, "digits")
    assert [row["split"] for row in by_torch] == [
        name for name in SPLITS for _ in range(len(getattr(dataset, name)))
    ]
    for row in (*by_torch, *by_jax):
        row.pop("split"), row.pop("row"), row.pop("target")
    for one, other in zip(by_torch, by_jax, strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-4)


def test_a_table_with_other_categories_in_another_order_is_read_by_name(
    server: Running, uploads: None, register: Register
) -> None:
    register(name="by-name", dataset="things", model=LAYERS)
    done, rows = scored(server, "torch", model="by-name", dataset="turned")
    dataset = samples(server, "turned")
    assert_same(rows, predicted(server.client, "by-name", "torch", inputs_of(dataset, "test")))
    assert done["metrics"].keys() == {"loss", "accuracy"}


@pytest.mark.parametrize(("model", "dataset"), [("colours", "digits"), ("digits", "colours")])
def test_images_of_other_sizes_and_channels_are_converted(
    server: Running, uploads: None, register: Register, model: str, dataset: str
) -> None:
    name = f"{model}-on-{dataset}"
    register(name=name, dataset=model, model=NETWORK)
    done, rows = scored(server, "torch", model=name, dataset=dataset)
    expected = inputs_of(samples(server, dataset), "test")
    assert_same(rows, predicted(server.client, name, "torch", expected))
    # The digits know classes that the four colours do not, and not the other way round.
    assert bool(done["metrics"]) == (dataset == "colours")


def test_a_model_whose_answers_are_no_numbers_fails(server: Running, register: Register) -> None:
    one = register(name="endless", dataset="digits")
    weights = {name: array.copy() for name, array in one.file.weights.items()}
    weights["linear.weight"][:] = 3e38
    register(name="endless", dataset="digits", weights=weights)
    made = server.client.post("/predictions", json={"model": "endless", "dataset": "digits"}).json()
    compute(server, "torch", made["id"])
    failed = server.client.get(made["urls"]["self"]).json()
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "not_finite"
    assert "each of the 270 rows" in failed["error"]["message"]


def test_a_precision_is_that_of_predict_when_it_was_asked_for(
    server: Running, register: Register, tmp_path: Path
) -> None:
    one = register(name="reduced", dataset="digits", model=NETWORK)
    url = f"/models/reduced/versions/{one.version}"
    changed = server.client.patch(url, json={"serving": {"precision": "bfloat16"}})
    assert changed.status_code == 200, changed.text
    made = server.client.post("/predictions", json={"model": "reduced", "dataset": "digits", **EVERYTHING})
    server.client.patch(url, json={"serving": {"precision": "float32"}})
    compute(server, "torch", made.json()["id"])
    content = server.client.get(made.json()["urls"]["result"]).content
    rows = parquet.read_table(io.BytesIO(content)).to_pylist()
    inputs = inputs_of(samples(server, "digits"), "test")
    exact = np.array([found["logits"] for found in predicted(server.client, "reduced", "torch", inputs)])
    server.client.patch(url, json={"serving": {"precision": "bfloat16"}})
    reduced = np.array([found["logits"] for found in predicted(server.client, "reduced", "torch", inputs)])
    found = np.array([row["logits"] for row in rows])
    assert np.abs(found - exact).max() > 1e-4
    np.testing.assert_allclose(found, reduced, atol=2e-2)
