"""Texts, tables and images as files: uploaded, trained on in both frameworks, and served by both engines."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from app.client import Tandem
from models.framework import FRAMEWORKS
from models.weights import read_weights

pytestmark = pytest.mark.timeout(300)

STEPS = 12
TEXTS = [
    {
        "review": f"{('A fine', 'A dull')[index % 2]} film, seen {index % 9} times{' by us all' * (index % 5)}.",
        "verdict": ("good", "bad")[index % 2],
    }
    for index in range(160)
]
TABLE = [
    {
        "age": None if index % 10 == 3 else 20 + index % 37,
        "city": None if index % 13 == 5 else ("Bern", "Oslo", "Rome")[index % 3],
        "member": index % 4 == 0,
        "zip": 8000 + index % 3,
        "key": f"key-{index}",
        "bought": "yes" if index % 3 else "no",
    }
    for index in range(240)
]


def csv(rows):
    lines = [",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows]
    return "\n".join([",".join(rows[0]), *lines]).encode()


def as_parquet(rows):
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def png(index):
    """A picture with noise, of one of two colours and of a size of its own."""
    pixels = np.random.default_rng(index).integers(0, 100, (10 + index % 3, 12, 3), dtype=np.uint8)
    pixels[..., index % 2] += 150
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(96):
            archive.writestr(f"{('red', 'green')[index % 2]}/{index}.png", png(index))
    return file.getvalue()


@dataclass(frozen=True)
class Case:
    """The file for each framework, what is said of it, the network that is trained on it, and what is predicted."""

    files: Mapping[str, tuple[str, bytes]]
    upload: Mapping[str, Any]
    model: Mapping[str, Any]
    inputs: list[Any]


CASES = {
    "texts": Case(
        dict.fromkeys(FRAMEWORKS, ("films.jsonl", "\n".join(map(json.dumps, TEXTS)).encode())),
        {"task": "text-classification", "target": "verdict", "text": "review"},
        {"architecture": "bilstm", "embedding": 8, "hidden": 8, "layers": 1, "length": 32},
        ["A fine film", "a DULL film, seen 3 times by us all", "never heard of it: film", "fine " * 50],
    ),
    "table": Case(
        {"torch": ("buyers.csv", csv(TABLE)), "jax": ("buyers.parquet", as_parquet(TABLE))},
        {
            "task": "tabular-classification",
            "target": "bought",
            "columns": json.dumps({"zip": "categorical", "key": "ignore"}),
        },
        {"architecture": "mlp", "hidden": [16]},
        [
            {"age": 31, "city": "Oslo", "member": True, "zip": 8001},
            {"age": None, "city": None, "member": False, "zip": 8002},
            {"city": "Atlantis", "member": "false", "zip": "8000"},
        ],
    ),
    "images": Case(
        dict.fromkeys(FRAMEWORKS, ("colours.zip", zipped())),
        {"task": "image-classification", "size": "8x12", "resize": "crop"},
        {"architecture": "cnn", "width": 4, "stages": 1},
        [png(index) for index in range(100, 104)],
    ),
}


@pytest.fixture(scope="module")
def http(tandem_up):
    """A client that waits for engines which are loaded by the first prediction."""
    with httpx.Client(base_url=tandem_up, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def trained(tandem_up, http):
    """Every file uploaded, and a finished job for each in either framework."""
    jobs = {}
    with Tandem(tandem_up) as tandem:
        for name, case in CASES.items():
            for framework in FRAMEWORKS:
                both = f"{name}-{framework}"
                answer = http.post(
                    "/datasets", data={"name": both, **case.upload}, files={"file": case.files[framework]}
                )
                assert answer.status_code == 201, answer.text
                spec = {
                    "framework": framework,
                    "dataset": both,
                    "model": case.model,
                    "training": {"max_steps": STEPS, "batch_size": 16, "seed": 5},
                    "name": both,
                }
                jobs[name, framework] = tandem.create_job(spec)
        return {key: tandem.wait(job.id) for key, job in jobs.items()}


def logits(http, name, framework, engine):
    """What a model says of its case's inputs, as float64 [N, K]."""
    case = CASES[name]
    asked = {"model": f"{name}-{framework}", "engine": engine, "return": ["logits"]}
    if name == "images":
        query = {**asked, "return": "logits"}
        files = [("file", ("x.png", item, "image/png")) for item in case.inputs]
        answer = http.post("/predict", params=query, files=files)
    else:
        answer = http.post("/predict", json={**asked, "inputs": case.inputs})
    assert answer.status_code == 200, answer.text
    assert answer.json()["engine"] == engine
    return np.array([prediction["logits"] for prediction in answer.json()["predictions"]])


@pytest.mark.parametrize("name", CASES)
def test_engines_and_frameworks_agree_on_an_upload(http, trained, name):
    for framework in FRAMEWORKS:
        job = trained[name, framework]
        assert job.status == "succeeded", job
        assert job.progress.step == STEPS
    found = {
        (framework, engine): logits(http, name, framework, engine)
        for framework in FRAMEWORKS
        for engine in FRAMEWORKS
    }
    for framework in FRAMEWORKS:
        np.testing.assert_allclose(found[framework, "torch"], found[framework, "jax"], atol=1e-5)
    # float32 networks drift apart with the steps; float64 parity is tested in tests/models/test_parity.py.
    np.testing.assert_allclose(found["torch", "torch"], found["jax", "torch"], atol=2e-3)
    assert np.ptp(found["torch", "torch"], axis=0).max() > 0.01  # it does look at its inputs


@pytest.mark.parametrize("name", CASES)
def test_both_frameworks_went_through_the_same_batches(tandem, trained, name):
    losses = [
        [loss for loss in tandem.metrics(trained[name, framework].id)["train_loss"] if loss is not None]
        for framework in FRAMEWORKS
    ]
    assert len(losses[0]) >= STEPS
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)


def test_a_table_is_the_same_in_csv_and_parquet(http, trained):
    first, second = (http.get(f"/datasets/table-{framework}").json() for framework in FRAMEWORKS)
    assert first["sha256"] == second["sha256"]
    kinds = {field["name"]: (field["kind"], field["missing"]) for field in first["input"]["fields"]}
    assert kinds == {
        "age": ("numeric", "flagged"),
        "city": ("categorical", "flagged"),
        "member": ("boolean", "refused"),
        "zip": ("categorical", "refused"),
    }


def test_what_a_preview_shows_is_what_predict_takes(http, trained):
    for name in CASES:
        rows = http.get(f"/datasets/{name}-torch/preview", params={"split": "test"}).json()["rows"]
        body = {"model": f"{name}-torch", "inputs": [row["input"] for row in rows]}
        answer = http.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["predictions"]) == len(rows) == 8


def test_the_tokenizer_travels_inside_the_models_file(tandem, trained, tmp_path):
    cards = [
        read_weights(
            tandem.download_weights(
                f"texts-{framework}",
                trained["texts", framework].result.version,
                tmp_path / f"{framework}.safetensors",
            )
        ).card
        for framework in FRAMEWORKS
    ]
    assert cards[0].preprocessing == cards[1].preprocessing
    encoder = cards[0].preprocessing.encoder
    (ids,) = encoder.ids(["A fine film"])
    assert encoder.knows(ids)


@pytest.mark.parametrize("engine", FRAMEWORKS)
def test_a_text_of_unknown_words_only_is_refused(http, trained, engine):
    body = {"model": "texts-torch", "engine": engine, "inputs": ["a fine film", "xylophon zzz"]}
    answer = http.post("/predict", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/inputs/1"


def test_a_refused_file_leaves_its_name_free_and_the_server_serving(http, trained):
    broken = csv(TABLE) + b"\n1,Bern"
    form = {"name": "broken", "task": "tabular-classification", "target": "bought"}
    answer = http.post("/datasets", data=form, files={"file": ("a.csv", broken)})
    assert answer.status_code == 422
    assert f"Row {len(TABLE) + 2} has 2 cell(s)" in answer.json()["detail"]
    assert http.get("/datasets/broken").status_code == 404
