"""The Open Inference Protocol, by Triton's own client and by hand: every kind of tensor, every error."""

import asyncio
import base64
import csv
import gzip
import io
import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tritonclient.utils import InferenceServerException

from app.prediction.cache import LoadedModel, Variant
from models.framework import ENGINES
from tests.app.serving import (
    Registered,
    Running,
    assert_problem,
    linear_logits,
    registered,
    running,
    settings_in,
)
from tests.app.test_fuzz import LIGHTLY, bent_out_of_shape

LENGTH = "Inference-Header-Content-Length"
USUAL = {"Origin": "http://127.0.0.1"}
"""A header that sends a request the usual way, and changes nothing else."""
TEXTS = ("one two three", "four five", "six", "seven eight nine ten")
WORDS = {"architecture": "bilstm", "embedding": 6, "hidden": 5, "length": 8, "min_frequency": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a model of each kind of input."""
    folder = tmp_path_factory.mktemp("protocol")
    with running(settings_in(folder, max_body_bytes=200_000, max_batch_items=16)) as server:
        registered(server.services, name="rows", dataset="diabetes")
        lines = [{"text": TEXTS[i % 4], "label": "even" if i % 4 in (0, 1) else "odd"} for i in range(40)]
        file = ("texts.jsonl", "\n".join(map(json.dumps, lines)))
        _upload(server.client, "texts", file, task="text-classification", text="text", target="label")
        registered(server.services, name="words", dataset="texts", model=WORDS)
        _upload(server.client, "houses", ("houses.csv", _houses()), task="tabular-classification", target="y")
        registered(server.services, name="typed", dataset="houses")
        yield server


def _upload(client: httpx.Client, name: str, file: tuple[str, str], **fields: str) -> None:
    answer = client.post("/datasets", files={"file": file}, data={"name": name, **fields})
    assert answer.status_code == 201, answer.text


def _houses() -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(("size", "city", "garden", "y"))
    rows.writerows(
        (i % 7 or "", ("bonn", "köln")[i % 2], ("true", "false")[i % 3 > 0], "ab"[i % 2]) for i in range(60)
    )
    return out.getvalue()


@pytest.fixture(scope="module")
def digits(served: Running) -> Registered:
    return registered(served.services, name="pictures")


@pytest.fixture(scope="module")
def client(served: Running, digits: Registered) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient("{}:{}".format(*served.address)) as client:
        yield client


def tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> triton.InferInput:
    found = triton.InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def pictures(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, "PNG")
    return file.getvalue()


def bytes_of(*elements: Any) -> np.ndarray:
    return np.array(elements, np.object_)


def loaded(server: Running, name: str) -> LoadedModel:
    """What the server has in memory on torch."""
    sha256 = server.client.get(f"/models/{name}/versions/1").json()["sha256"]
    found = server.services.predictions.cache.ready((sha256, Variant("torch")))
    assert found is not None
    return found


def asked(server: Running, model: str, inputs: Sequence[Any], engine: str = "torch") -> list[dict[str, Any]]:
    """What /predict says."""
    wanted = {"return": ["labels", "probabilities", "logits"]}
    body = {"model": model, "inputs": inputs, "engine": engine, **(wanted if model != "rows" else {})}
    answer = server.client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def test_the_server_says_who_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    found = client.get_server_metadata()
    assert found["name"] == "tandem"
    assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= set(
        found["extensions"]
    )


def test_models_say_what_they_take(client: triton.InferenceServerClient) -> None:
    found = client.get_model_metadata("pictures")
    assert (found["name"], found["versions"], found["platform"]) == ("pictures", ["1"], "tandem")
    classes = {"datatype": "FP32", "shape": [-1, 10]}
    assert found["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]},
        {"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]},
    ]
    assert found["outputs"] == [
        {"name": "logits", **classes},
        {"name": "probabilities", **classes},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]
    assert client.get_model_metadata("pictures", "1") == found
    words = client.get_model_metadata("words")
    assert [(one["name"], one["datatype"], one["shape"]) for one in words["inputs"]] == [
        ("text", "BYTES", [-1]),
        ("input_ids", "INT64", [-1, -1]),
        ("attention_mask", "INT64", [-1, -1]),
    ]
    rows = client.get_model_metadata("rows")
    assert rows["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 10]}]
    assert rows["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [-1, 1]}]
    typed = {one["name"]: one["datatype"] for one in client.get_model_metadata("typed")["inputs"]}
    assert typed == {"input": "FP32", "size": "FP32", "city": "BYTES", "garden": "BOOL"}


def test_the_configuration_is_tritons(client: triton.InferenceServerClient) -> None:
    found = client.get_model_config("pictures", "1")
    assert found["max_batch_size"] == 16
    assert found["input"][0] == {
        "name": "image",
        "data_type": "TYPE_UINT8",
        "dims": [8, 8, 1],
        "optional": False,
    }
    assert found["input"][1]["optional"]
    assert found["output"][2] == {"name": "label", "data_type": "TYPE_STRING", "dims": [1]}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_pixels_give_what_the_weights_give(
    engine: str, binary: bool, rows: int, client: triton.InferenceServerClient, digits: Registered
) -> None:
    x = pictures(rows)
    wanted = [
        triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "logits", "probabilities")
    ]
    found = client.infer(
        "pictures", [tensor("image", x, "UINT8", binary=binary)], outputs=wanted, request_id="my-7",
        parameters={"engine": engine},
    )  # fmt: skip
    head = found.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("pictures", "1", "my-7")
    assert head["parameters"] == {"engine": engine}
    assert [one["name"] for one in head["outputs"]] == ["label", "logits", "probabilities"]
    logits = linear_logits(digits.file, x)
    np.testing.assert_allclose(found.as_numpy("logits"), logits, atol=1e-4)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        found.as_numpy("probabilities"), expected / expected.sum(1, keepdims=True), atol=1e-4
    )
    labels = [one.decode() if isinstance(one, bytes) else one for one in found.as_numpy("label")]
    assert labels == [str(one) for one in logits.argmax(axis=1)]


def test_outputs_that_nobody_names_all_come_binary(client: triton.InferenceServerClient) -> None:
    head = client.infer("pictures", [tensor("image", pictures(2), "UINT8")]).get_response()
    assert [one["name"] for one in head["outputs"]] == ["logits", "probabilities", "label"]
    assert all(one["parameters"]["binary_data_size"] > 0 for one in head["outputs"])


@pytest.mark.parametrize("engine", ENGINES)
def test_images_that_are_normalised_already_are_taken_as_they_are(
    engine: str, client: triton.InferenceServerClient, digits: Registered
) -> None:
    x = pictures(3)
    normal = digits.file.card.preprocessing.normalisation
    prepared = ((x - normal.mean) * normal.inverse_std).astype(np.float32).transpose(0, 3, 1, 2)
    given = tensor("input", np.ascontiguousarray(prepared), "FP32")
    found = client.infer("pictures", [given], parameters={"engine": engine})
    np.testing.assert_allclose(found.as_numpy("logits"), linear_logits(digits.file, x), atol=1e-4)


def test_encoded_images_are_decoded_and_resized_as_elsewhere(
    served: Running, client: triton.InferenceServerClient
) -> None:
    large = np.repeat(np.repeat(pictures(1)[0], 3, axis=0), 3, axis=1)
    files = [png(pictures(1, seed=4)[0]), png(large)]
    expected = asked(served, "pictures", [{"image": base64.b64encode(file).decode()} for file in files])
    for shape in ((2,), (2, 1)):
        given = tensor("image", bytes_of(*files).reshape(shape), "BYTES")
        found = client.infer("pictures", [given], parameters={"engine": "torch"})
        assert [one.decode() for one in found.as_numpy("label")] == [one["label"] for one in expected]
        np.testing.assert_allclose(found.as_numpy("logits"), [one["logits"] for one in expected], atol=1e-5)
    data = [base64.b64encode(file).decode() for file in files]
    body = {"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "data": data}]}
    answer = served.client.post("/v2/models/pictures/infer", json=body)
    assert answer.json()["outputs"][2]["data"] == [one["label"] for one in expected]


@pytest.mark.parametrize("binary", [True, False])
def test_texts_and_their_tokens_give_the_same(
    binary: bool, served: Running, client: triton.InferenceServerClient
) -> None:
    expected = asked(served, "words", TEXTS)
    texts = tensor("text", bytes_of(*(text.encode() for text in TEXTS)), "BYTES", binary=binary)
    by_text = client.infer("words", [texts], parameters={"engine": "torch"})
    np.testing.assert_allclose(by_text.as_numpy("logits"), [one["logits"] for one in expected], atol=1e-6)
    rows = loaded(served, "words").card.preprocessing.encoder.ids(TEXTS)  # type: ignore[union-attr]
    ids = np.zeros((4, 5), np.int64)
    for row, found in enumerate(rows):
        ids[row, : len(found)] = found
    garbled = np.where(ids == 0, 3, ids)  # where the mask is 0, anything may stand
    masks = [None, (ids != 0).astype(np.int64)]
    for rows_of_ids, mask in zip((ids, garbled), masks, strict=True):
        tensors = [tensor("input_ids", rows_of_ids, "INT64", binary=binary)]
        tensors += [] if mask is None else [tensor("attention_mask", mask, "INT64", binary=binary)]
        found = client.infer("words", tensors, parameters={"engine": "torch"})
        np.testing.assert_allclose(found.as_numpy("logits"), by_text.as_numpy("logits"), atol=1e-6)


def test_rows_give_values_in_their_own_units(served: Running, client: triton.InferenceServerClient) -> None:
    x = np.random.default_rng(0).normal(40, 9, (4, 10)).astype(np.float32)
    expected = [one["value"] for one in asked(served, "rows", x.tolist())]
    found = client.infer("rows", [tensor("input", x, "FP32")])
    assert found.as_numpy("value").shape == (4, 1)
    np.testing.assert_allclose(found.as_numpy("value")[:, 0], expected, rtol=1e-6)


def test_typed_columns_are_tensors_of_their_own(
    served: Running, client: triton.InferenceServerClient
) -> None:
    items = [
        {"size": 3, "city": "bonn", "garden": True},
        {"size": None, "city": "köln", "garden": False},
        {"size": 2.5, "city": "paris", "garden": True},
    ]
    expected = [one["logits"] for one in asked(served, "typed", items)]
    size, city = np.array([3, np.nan, 2.5]), bytes_of(*(one["city"].encode() for one in items))
    garden = np.array([True, False, True])
    columns = [tensor("size", size, "FP64"), tensor("city", city, "BYTES"), tensor("garden", garden, "BOOL")]
    for tensors in (columns, columns[::-1]):
        found = client.infer("typed", tensors, parameters={"engine": "torch"})
        np.testing.assert_allclose(found.as_numpy("logits"), expected, atol=1e-6)
    tall = [
        tensor("size", size.astype(np.float32)[:, None], "FP32"),
        tensor("city", city[:, None], "BYTES"),
        tensor("garden", garden[:, None], "BOOL"),
    ]
    np.testing.assert_allclose(client.infer("typed", tall).as_numpy("logits"), expected, atol=1e-5)
    x = loaded(served, "typed").card.preprocessing.batch(items)
    found = client.infer("typed", [tensor("input", x, "FP32")])
    np.testing.assert_allclose(found.as_numpy("logits"), expected, atol=1e-5)


def test_a_classification_sorts_values_with_their_labels(
    client: triton.InferenceServerClient, digits: Registered
) -> None:
    x = pictures(2)
    logits = linear_logits(digits.file, x)
    for name in ("logits", "probabilities"):
        wanted = triton.InferRequestedOutput(name, class_count=3)
        found = client.infer("pictures", [tensor("image", x, "UINT8")], outputs=[wanted]).as_numpy(name)
        assert found.shape == (2, 3)
        for row, order in zip(found, np.argsort(-logits, axis=1), strict=True):
            parts = [one.decode().split(":") for one in row]
            assert [int(index) for _, index, _ in parts] == order[:3].tolist()
            assert all(index == label for _, index, label in parts)
            values = [float(value) for value, _, _ in parts]
            assert values == sorted(values, reverse=True)
    wanted = triton.InferRequestedOutput("logits", class_count=99)
    every = client.infer("pictures", [tensor("image", x, "UINT8")], outputs=[wanted])
    assert every.as_numpy("logits").shape == (2, 10)


def test_versions_and_aliases_can_be_asked(served: Running, client: triton.InferenceServerClient) -> None:
    one = registered(served.services, name="twice", seed=1)
    two = registered(served.services, name="twice", seed=2)
    served.client.put("/models/twice/aliases/old", json={"version": 1})
    x = pictures(1)
    for model, version, file in (
        ("twice", "1", one.file),
        ("twice", "2", two.file),
        ("twice", "", two.file),
        ("twice@old", "", one.file),
        (one.job_id, "", one.file),
    ):
        found = client.infer(model, [tensor("image", x, "UINT8")], model_version=version)
        np.testing.assert_allclose(found.as_numpy("logits"), linear_logits(file, x), atol=1e-4)
        assert client.is_model_ready(model, version)
    assert client.get_model_metadata("twice")["versions"] == ["1", "2"]
    index = client.get_model_repository_index()
    assert [one for one in index if one["name"] == "twice"] == [
        {"name": "twice", "version": version, "state": "READY", "reason": ""} for version in ("1", "2")
    ]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_taken(compression: str, client: triton.InferenceServerClient) -> None:
    given = [tensor("image", pictures(4), "UINT8")]
    expected = client.infer("pictures", given, parameters={"engine": "torch"}).as_numpy("logits")
    found = client.infer(
        "pictures", given, parameters={"engine": "torch"}, request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )  # fmt: skip
    np.testing.assert_array_equal(found.as_numpy("logits"), expected)


@pytest.mark.parametrize("usual", [{}, USUAL])
def test_a_raw_body_is_the_whole_input(usual: dict[str, str], served: Running, digits: Registered) -> None:
    headers = {LENGTH: "0", **usual}
    cases = (
        ("pictures", png(pictures(1)[0]), linear_logits(digits.file, pictures(1))),
        ("words", TEXTS[0].encode(), [asked(served, "words", TEXTS[:1])[0]["logits"]]),
        ("rows", struct.pack("<10f", *range(10)), [[asked(served, "rows", [[*range(10)]])[0]["value"]]]),
    )
    for model, body, expected in cases:
        answer = served.client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        length = int(answer.headers[LENGTH])
        head = json.loads(answer.content[:length])
        size = head["outputs"][0]["parameters"]["binary_data_size"]
        found = np.frombuffer(answer.content[length : length + size], np.float32)
        np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-4, atol=1e-4)


def test_models_are_unloaded_and_loaded(served: Running, client: triton.InferenceServerClient) -> None:
    model = registered(served.services, name="resting")
    given = [tensor("image", pictures(1), "UINT8")]
    client.infer("resting", given)
    cache = served.services.predictions.cache
    assert cache.loaded(model.sha256)
    client.unload_model("resting")
    assert not cache.loaded(model.sha256)
    assert not client.is_model_ready("resting")
    with pytest.raises(InferenceServerException, match="unloaded") as refused:
        client.infer("resting", given)
    assert refused.value.status() == "503"
    body = {"model": "resting", "inputs": pictures(1).tolist()}
    assert_problem(served.client.post("/predict", json=body), 503, None, "load brings it back")
    assert served.client.get("/models/resting").json()["enabled"] is False
    index = {one["name"]: one for one in client.get_model_repository_index()}
    assert index["resting"] == {
        "name": "resting",
        "version": "1",
        "state": "UNAVAILABLE",
        "reason": "unloaded",
    }
    ready = served.client.post("/v2/repository/index", json={"ready": True}).json()
    assert "resting" not in {one["name"] for one in ready}
    client.load_model("resting")
    assert cache.loaded(model.sha256)
    assert client.is_model_ready("resting")
    client.infer("resting", given)
    for act in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="There is no model 'nobody'") as unknown:
            act("nobody")
        assert unknown.value.status() == "404"
    client.unload_model("resting")
    assert served.client.delete("/models/resting").status_code == 200
    registered(served.services, name="resting")
    client.infer("resting", given)  # the name came back as a new one
    with pytest.raises(InferenceServerException, match="no parameters") as refused:
        client.load_model("resting", config="{}")
    assert refused.value.status() == "501"


def test_statistics_count_inputs_batches_and_failures(
    served: Running, client: triton.InferenceServerClient
) -> None:
    registered(served.services, name="counted")
    assert client.get_inference_statistics("counted")["model_stats"][0]["inference_count"] == 0
    for rows in (3, 3, 2):
        client.infer("counted", [tensor("image", pictures(rows), "UINT8")])
    with pytest.raises(InferenceServerException):
        client.infer("counted", [tensor("image", pictures(1)[:, :4], "UINT8")])
    (found,) = client.get_inference_statistics("counted", "1")["model_stats"]
    assert (found["inference_count"], found["execution_count"]) == (8, 3)
    assert found["last_inference"] > 1.7e12
    stats = found["inference_stats"]
    assert {name: one["count"] for name, one in stats.items()} == {
        "success": 3, "fail": 1, "queue": 3, "compute_input": 3, "compute_infer": 3, "compute_output": 3,
        "cache_hit": 0, "cache_miss": 0,
    }  # fmt: skip
    parts = sum(stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert 0 < parts <= stats["success"]["ns"]
    assert [(one["batch_size"], one["compute_infer"]["count"]) for one in found["batch_stats"]] == [
        (2, 1),
        (3, 2),
    ]
    every = {one["name"] for one in client.get_inference_statistics()["model_stats"]}
    assert {"counted", "pictures", "rows"} <= every
    text = served.client.get("/metrics").text
    engine = "torch"
    assert f'tandem_predictions_total{{engine="{engine}",model="counted",process="0"}} 8.0' in text
    assert f'tandem_prediction_failures_total{{engine="{engine}",model="counted",process="0"}} 1.0' in text
    assert f'tandem_prediction_batch_size_count{{engine="{engine}",model="counted",process="0"}} 3.0' in text
    for part in ("input", "queue", "infer", "output"):
        line = f'tandem_prediction_seconds_count{{engine="{engine}",model="counted",part="{part}",process="0"}} 3.0'
        assert line in text


def test_the_aio_client_gets_its_own_answers(served: Running, digits: Registered) -> None:
    async def scenario() -> None:
        async with triton_aio.InferenceServerClient("{}:{}".format(*served.address)) as client:
            assert await client.is_model_ready("pictures")

            async def one(seed: int) -> None:
                x = pictures(1 + seed % 3, seed)
                given = triton_aio.InferInput("image", list(x.shape), "UINT8")
                given.set_data_from_numpy(x, binary_data=bool(seed % 2))
                compression = (None, "gzip", "deflate")[seed % 3]
                found = await client.infer(
                    "pictures", [given], request_id=str(seed), request_compression_algorithm=compression
                )
                assert found.get_response()["id"] == str(seed)
                np.testing.assert_allclose(found.as_numpy("logits"), linear_logits(digits.file, x), atol=1e-4)

            await asyncio.gather(*map(one, range(60)))

    asyncio.run(scenario())


def image(**changes: Any) -> dict[str, Any]:
    one = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [0] * 64}
    return {name: value for name, value in {**one, **changes}.items() if value is not None}


def row(**changes: Any) -> dict[str, Any]:
    return {"name": "input", "shape": [1, 10], "datatype": "FP32", "data": [0.5] * 10, **changes}


def text(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["one"], **changes}


def ids(values: Sequence[Sequence[int]], **changes: Any) -> dict[str, Any]:
    shape = [len(values), len(values[0])]
    return {"name": "input_ids", "shape": shape, "datatype": "INT64", "data": values, **changes}


CATALOG: list[tuple[str, Any, str]] = [
    ("pictures", {}, "'inputs' must be a list"),
    ("pictures", [], "must be an object"),
    ("pictures", {"inputs": []}, "at least one"),
    ("pictures", {"inputs": [3]}, "A tensor is an object"),
    ("pictures", {"inputs": [image(name=None)]}, "needs a text 'name'"),
    ("pictures", {"inputs": [image(datatype="UINT7")]}, "Known: BF16, BOOL"),
    ("pictures", {"inputs": [image(datatype=None)]}, "Unknown datatype"),
    ("pictures", {"inputs": [image(shape=None)]}, "'shape' must be"),
    ("pictures", {"inputs": [image(shape=[])]}, "'shape' must be"),
    ("pictures", {"inputs": [image(shape=[1, 8, -8, 1])]}, "'shape' must be"),
    ("pictures", {"inputs": [image(shape=[1, 8, 8])]}, "has 64 elements|has shape [1, 8, 8]"),
    ("pictures", {"inputs": [image(shape=[1, 8, 9, 1])]}, "takes [-1, 8, 8, 1]"),
    ("pictures", {"inputs": [image(shape=[0, 8, 8, 1], data=[])]}, "has no rows"),
    ("pictures", {"inputs": [image(data=[0] * 63)]}, "has 63 elements"),
    ("pictures", {"inputs": [image(data=[0] * 63 + [256])]}, "UINT8 cannot"),
    ("pictures", {"inputs": [image(data=[0] * 63 + [-1])]}, "UINT8 cannot"),
    ("pictures", {"inputs": [image(data=[0] * 63 + [0.5])]}, "holds '0.5'"),
    ("pictures", {"inputs": [image(data=[0] * 63 + [True])]}, "holds 'True'"),
    ("pictures", {"inputs": [image(data=[0] * 63 + [[1]])]}, "nested unevenly"),
    ("pictures", {"inputs": [image(data="x")]}, "has no data"),
    ("pictures", {"inputs": [image(data=None)]}, "has no data"),
    ("pictures", {"inputs": [image(), image()]}, "given twice"),
    ("pictures", {"inputs": [image(name="images")]}, "Did you mean 'image'"),
    ("pictures", {"inputs": [image(datatype="FP32")]}, "is FP32; the model takes UINT8"),
    ("pictures", {"inputs": [image(datatype="BF16")]}, "is BF16"),
    (
        "pictures",
        {"inputs": [image(), image(name="input", datatype="FP32", shape=[1, 1, 8, 8])]},
        "Give one of",
    ),
    ("pictures", {"inputs": [image(datatype="BYTES", shape=[1], data=["###"])]}, "not base64"),
    ("pictures", {"inputs": [image(datatype="BYTES", shape=[1], data=["AAAA"])]}, "not a readable image"),
    ("pictures", {"inputs": [image(datatype="BYTES", shape=[1, 2], data=["AA==", "AA=="])]}, "takes [-1] or"),
    ("pictures", {"inputs": [image(shape=[17, 8, 8, 1], data=[0] * 64 * 17)]}, "a request may have 16"),
    ("pictures", {"inputs": [image(parameters={"binary_data_size": 64})]}, "Inference-Header-Content-Length"),
    ("pictures", {"inputs": [image(parameters=3)]}, "'parameters' must be an object"),
    ("pictures", {"inputs": [image()], "id": 7}, "'id' must be a text"),
    ("pictures", {"inputs": [image()], "outputs": [{"name": "logit"}]}, "Did you mean 'logits'"),
    ("pictures", {"inputs": [image()], "outputs": [{"name": "label"}, {"name": "label"}]}, "asked for twice"),
    ("pictures", {"inputs": [image()], "outputs": {"name": "label"}}, "must be a list"),
    (
        "pictures",
        {"inputs": [image()], "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        "no values to sort",
    ),
    (
        "pictures",
        {"inputs": [image()], "outputs": [{"name": "logits", "parameters": {"classification": -2}}]},
        "how many classes",
    ),
    (
        "pictures",
        {"inputs": [image()], "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]},
        "true or false",
    ),
    ("pictures", {"inputs": [image()], "parameters": {"engine": "tensorflow"}}, "Unknown engine"),
    ("pictures", {"inputs": [image()], "parameters": {"engine": ["torch"]}}, "Unknown engine"),
    ("pictures", {"inputs": [image()], "parameters": {"timeout": -1}}, "microseconds"),
    ("pictures", {"inputs": [image()], "parameters": {"binary_data_output": "yes"}}, "true or false"),
    ("rows", {"inputs": [row(shape=[1, 9], data=[0] * 9)]}, "takes [-1, 10]"),
    ("rows", {"inputs": [row(data=["a"] * 10)]}, "holds 'a'"),
    ("rows", {"inputs": [row(data=[1e39] * 10)]}, "FP32 cannot"),
    ("rows", {"inputs": [row(data=[10**400] * 10)]}, "not a finite number|FP32 cannot"),
    ("words", {"inputs": [text(data=[3])]}, "JSON has its elements as texts"),
    ("words", {"inputs": [text(data=[" "])]}, "empty"),
    ("words", {"inputs": [text(data=["zzz qqq"])]}, "known to the model"),
    ("words", {"inputs": [text(datatype="INT64", data=[3])]}, "takes BYTES"),
    ("words", {"inputs": [text(), ids([[2, 3]])]}, "Give one of|rows"),
    ("words", {"inputs": [ids([[2] * 9])]}, "at most 8"),
    ("words", {"inputs": [ids([[2, 10_000_000]])]}, "none of this model's"),
    ("words", {"inputs": [ids([[2, -1]])]}, "none of this model's"),
    ("words", {"inputs": [ids([[2, 3], [0, 0]])]}, "without tokens, in row 1"),
    ("words", {"inputs": [ids([[0, 3]])]}, "padding goes at the end"),
    ("words", {"inputs": [ids([[2, 3]]), ids([[1, 2]], name="attention_mask")]}, "0 and 1"),
    ("words", {"inputs": [ids([[2, 3]]), ids([[1]], name="attention_mask")]}, "has shape [1, 1]"),
    ("words", {"inputs": [ids([[1, 1]], name="attention_mask")]}, "goes with 'input_ids'"),
    ("typed", {"inputs": [text(name="city", data=["bonn"])]}, "Missing column"),
    ("typed", {"inputs": [text(name="city"), row()]}, "not both|rows"),
]


@pytest.mark.parametrize(("model", "body", "hint"), CATALOG)
def test_whatever_is_wrong_is_a_400_that_says_so(
    model: str, body: Any, hint: str, served: Running, digits: Registered
) -> None:
    answers = [
        served.client.post(f"/v2/models/{model}/infer", content=json.dumps(body), headers=headers)
        for headers in ({}, USUAL)
    ]
    for answer in answers:
        assert_problem(answer, 400)
        assert any(one in answer.json()["error"] for one in hint.split("|")), answer.json()["error"]
    assert answers[0].json()["errors"] == answers[1].json()["errors"]


@pytest.mark.parametrize("headers", [{}, USUAL])
def test_a_field_that_is_given_twice_is_a_400(
    headers: dict[str, str], served: Running, digits: Registered
) -> None:
    body = json.dumps({"inputs": [image()]})[:-1] + ', "inputs": []}'
    answer = served.client.post("/v2/models/pictures/infer", content=body, headers=headers)
    assert_problem(answer, 400, "/inputs")
    assert answer.json()["error"] == "The field 'inputs' is given twice. Give it once."


HEAD = json.dumps({"inputs": [image(data=None, parameters={"binary_data_size": 64})]}).encode()
BYTES_HEAD = json.dumps({"inputs": [text(data=None, parameters={"binary_data_size": 8})]}).encode()


@pytest.mark.parametrize(
    ("model", "body", "headers", "status", "hint"),
    [
        ("pictures", HEAD + bytes(63), {LENGTH: str(len(HEAD))}, 400, "only 63 follow"),
        ("pictures", HEAD + bytes(65), {LENGTH: str(len(HEAD))}, 400, "65 bytes follow"),
        ("pictures", HEAD + bytes(64), {}, 400, "not JSON"),
        ("pictures", HEAD + bytes(64), {LENGTH: "99999"}, 400, LENGTH),
        ("pictures", HEAD + bytes(64), {LENGTH: "-1"}, 400, LENGTH),
        ("pictures", HEAD + bytes(64), {LENGTH: "some"}, 400, LENGTH),
        ("pictures", HEAD.replace(b"UINT8", b"INT16") + bytes(64), {LENGTH: str(len(HEAD))}, 400, "is INT16"),
        ("words", BYTES_HEAD + b"\x09\0\0\0none", {LENGTH: str(len(BYTES_HEAD))}, 400, "cut short"),
        ("words", BYTES_HEAD + b"\x04\0\0\0\xff\xfe\xfd\xfc", {LENGTH: str(len(BYTES_HEAD))}, 400, "UTF-8"),
        ("words", BYTES_HEAD + bytes(8), {LENGTH: str(len(BYTES_HEAD))}, 400, "has 2 elements"),
        ("pictures", b"nothing that is an image", {LENGTH: "0"}, 400, "not a readable image"),
        ("rows", b"123", {LENGTH: "0"}, 400, "40 bytes"),
        ("rows", b"\xff" * 40, {LENGTH: "0"}, 400, "NaN"),
        ("words", b"\xff", {LENGTH: "0"}, 400, "UTF-8"),
        ("pictures", b"", {}, 400, "empty"),
        ("pictures", b"{}", {"Content-Encoding": "br"}, 400, "gzip"),
        ("pictures", b"{}", {"Content-Encoding": "gzip"}, 400, "Content-Encoding"),
        ("pictures", gzip.compress(HEAD)[:-9], {"Content-Encoding": "gzip"}, 400, "cut short"),
        ("pictures", gzip.compress(b"") * 5000, {"Content-Encoding": "gzip"}, 400, "one piece"),
        ("pictures/versions/" + "9" * 50, json.dumps({"inputs": [image()]}).encode(), {}, 400, "is no version"),
        ("pictures", zlib.compress(bytes(300_000)), {"Content-Encoding": "deflate"}, 413, "unpacked"),
        ("pictures", bytes(200_001), {}, 413, "too large"),
        ("nobody", json.dumps({"inputs": [image()]}).encode(), {}, 404, "no model 'nobody'"),
        ("pictures@9", json.dumps({"inputs": [image()]}).encode(), {}, 404, "no version 9"),
        ("pictures/versions/9", json.dumps({"inputs": [image()]}).encode(), {}, 404, "no version 9"),
        ("pictures/versions/one", json.dumps({"inputs": [image()]}).encode(), {}, 400, "'one' is no version"),
        ("pictures@1/versions/1", json.dumps({"inputs": [image()]}).encode(), {}, 400, "names a version already"),
        ("a,b", json.dumps({"inputs": [image()]}).encode(), {}, 400, ""),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_read_are_explained(
    model: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    hint: str,
    served: Running,
    digits: Registered,
) -> None:
    for more in ({}, USUAL):
        answer = served.client.post(f"/v2/models/{model}/infer", content=body, headers={**headers, **more})
        assert_problem(answer, status)
        assert hint in answer.json()["error"]


def test_json_needs_no_content_type(served: Running, digits: Registered) -> None:
    body = json.dumps({"inputs": [image()]}).encode()
    for more in ({}, USUAL, {"Content-Type": "application/octet-stream"}, {"Content-Type": "text/plain"}):
        answer = served.client.post("/v2/models/pictures/infer", content=body, headers=more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert LENGTH not in answer.headers
        assert len(answer.json()["outputs"]) == 3


@pytest.mark.parametrize(
    "path",
    [
        "systemsharedmemory/status",
        "cudasharedmemory/region/a/register",
        "logging",
        "trace/setting",
        "models/a/trace/setting",
    ],
)
def test_extensions_that_are_not_there_say_so(path: str, served: Running) -> None:
    for method in ("GET", "POST"):
        assert_problem(served.client.request(method, f"/v2/{path}"), 501, None, "GET /v2 lists")


def test_shared_memory_is_refused(served: Running, client: triton.InferenceServerClient) -> None:
    given = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
    given.set_shared_memory("region", 64)
    with pytest.raises(InferenceServerException, match="Shared memory") as refused:
        client.infer("pictures", [given])
    assert refused.value.status() == "501"


def test_unknown_models_and_versions_are_404_everywhere(served: Running, digits: Registered) -> None:
    for path in ("", "/ready", "/config", "/stats"):
        assert_problem(served.client.get(f"/v2/models/nobody{path}"), 404, None, "no model 'nobody'")
        assert_problem(served.client.get(f"/v2/models/pictures/versions/7{path}"), 404, None, "no version 7")
        assert_problem(
            served.client.get(f"/v2/models/pictures/versions/x{path}"), 400, "/version", "no version"
        )


def test_a_client_may_wait_less_than_the_server_would(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, serving_threads=1)) as server:
        model = registered(server.services, model={"architecture": "resnet18", "stem": "cifar"})
        url = f"/v2/models/{model.name}/infer"
        body = {"inputs": [image()], "parameters": {"engine": "torch"}}
        assert server.client.post(url, json=body).status_code == 200
        gate = threading.Event()
        server.services.predictions.computers.submit(gate.wait, 30)
        served = loaded(server, model.name)
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(server.client.post, url, json=body)
            time.sleep(0.2)  # it is with the runner, and the next one waits behind it
            body["parameters"] = {"engine": "torch", "timeout": 50_000}
            second = threads.submit(server.client.post, url, json=body)
            while not served.raw.waiting_rows:
                time.sleep(0.01)
            time.sleep(0.1)
            gate.set()
            assert first.result().status_code == 200
            assert_problem(second.result(), 503, None, "turn did not come")


INFERENCE: dict[str, Any] = {
    "id": "a",
    "inputs": [image(parameters={"content_type": "base64"}, data=[[0] * 8] * 8)],
    "outputs": [{"name": "logits", "parameters": {"classification": 2, "binary_data": True}}],
    "parameters": {"engine": "torch", "timeout": 1_000_000},
}


@LIGHTLY
@given(bent_out_of_shape(INFERENCE))
def test_no_bent_request_breaks_anything(served: Running, digits: Registered, body: Any) -> None:
    answer = served.client.post("/v2/models/pictures/infer", content=json.dumps(body).encode())
    assert answer.status_code in (200, 400, 501), answer.text
    assert answer.status_code == 200 or answer.json()["error"]


@LIGHTLY
@given(
    st.binary(max_size=64), st.sampled_from(["0", "2", "20"]), st.sampled_from(["pictures", "rows", "words"])
)
def test_no_bytes_break_anything(
    served: Running, digits: Registered, body: bytes, length: str, model: str
) -> None:
    answer = served.client.post(f"/v2/models/{model}/infer", content=body, headers={LENGTH: length})
    assert answer.status_code in (200, 400), answer.text
