"""`POST /predict`: every input form, on both engines, against the model's own definition in NumPy."""

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from models.framework import ENGINES
from tests.app.serving import Registered, Running, assert_problem, linear_logits

Register = Callable[..., Registered]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Three raw images, uint8 [3, 8, 8, 1]."""
    return np.random.default_rng(3).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)


@pytest.fixture
def digits(register: Register) -> Registered:
    return register(name="digits-linear")


@pytest.fixture
def diabetes(register: Register) -> Registered:
    return register(dataset="diabetes", framework="jax", name="diabetes-linear")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, kind, quality=100)
    return file.getvalue()


def in_base64(pixels: np.ndarray) -> dict[str, str]:
    return {"image": base64.b64encode(encoded(pixels)).decode()}


def predicted(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def logits_of(answer: dict[str, Any]) -> np.ndarray:
    return np.array([prediction["logits"] for prediction in answer["predictions"]])


@pytest.mark.parametrize("engine", ENGINES)
def test_either_engine_gives_what_the_definition_says(
    client: httpx.Client, digits: Registered, x: np.ndarray, engine: str
) -> None:
    answer = predicted(client, model=digits.name, inputs=x.tolist(), engine=engine, **{"return": ["logits"]})
    assert answer["engine"] == engine
    assert answer["model"] == {"name": digits.name, "version": digits.version, "framework": "torch"}
    np.testing.assert_allclose(logits_of(answer), linear_logits(digits.file, x), atol=1e-4)
    assert answer["timing"].keys() == {"queue_ms", "compute_ms", "batch_size"}
    assert answer["timing"]["batch_size"] == 3
    assert answer["timing"]["compute_ms"] > 0
    assert answer["predictions"][0].keys() == {"logits"}


def test_labels_scores_and_probabilities_agree(
    client: httpx.Client, digits: Registered, x: np.ndarray
) -> None:
    wanted = ["labels", "probabilities", "logits"]
    answer = predicted(client, model=digits.name, inputs=x.tolist(), top_k=4, **{"return": wanted})
    for prediction, logits in zip(answer["predictions"], logits_of(answer), strict=True):
        expected = np.exp(logits - logits.max())
        expected /= expected.sum()
        np.testing.assert_allclose(prediction["probabilities"], expected, rtol=1e-9)
        assert prediction["index"] == int(np.argmax(logits))
        assert prediction["label"] == str(prediction["index"])
        assert prediction["score"] == prediction["probabilities"][prediction["index"]]
        order = np.argsort(-expected)[:4]
        assert prediction["top"] == [
            {"label": str(index), "score": prediction["probabilities"][index]} for index in order
        ]


def test_one_label_is_the_default_and_top_k_ends_at_the_classes(
    client: httpx.Client, digits: Registered, x: np.ndarray
) -> None:
    (first,) = predicted(client, model=digits.name, inputs=x[:1].tolist())["predictions"]
    assert first.keys() == {"label", "index", "score", "top"}
    assert len(first["top"]) == 1
    (all_of_them,) = predicted(client, model=digits.name, inputs=x[:1].tolist(), top_k=500)["predictions"]
    assert len(all_of_them["top"]) == 10


def test_every_form_of_an_image_gives_the_same_answer(
    client: httpx.Client, digits: Registered, x: np.ndarray
) -> None:
    query = {"model": digits.name, "return": "labels,logits", "engine": "torch"}
    url = httpx.URL("/predict", params=query)
    image, file = x[0], encoded(x[0])
    body = {"model": digits.name, "engine": "torch", "return": ["labels", "logits"]}
    answers = [
        client.post("/predict", json={**body, "inputs": [image.tolist()]}),
        client.post("/predict", json={**body, "inputs": [image[..., 0].tolist()]}),
        client.post("/predict", json={**body, "inputs": [in_base64(image)]}),
        client.post("/predict", content=json.dumps({**body, "inputs": [in_base64(image)]}).encode()),
        client.post(url, content=file, headers={"Content-Type": "image/png"}),
        client.post(url, files={"file": ("any name", file)}),
        client.post("/predict", data=query, files={"file": ("three.png", file, "image/png")}),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers), [one.text for one in answers]
    found = [answer.json()["predictions"] for answer in answers]
    assert found == [found[0]] * len(found)


def test_a_jpeg_in_the_body_is_taken(client: httpx.Client, digits: Registered, x: np.ndarray) -> None:
    headers = {"Content-Type": "image/jpeg"}
    answer = client.post(f"/predict?model={digits.name}", content=encoded(x[0], "JPEG"), headers=headers)
    assert answer.status_code == 200, answer.text


def test_several_files_are_one_batch_in_their_order(
    client: httpx.Client, digits: Registered, x: np.ndarray
) -> None:
    files = [("file", (f"{index}.png", encoded(image))) for index, image in enumerate(x)]
    answer = client.post("/predict", data={"model": digits.name, "return": "logits"}, files=files)
    np.testing.assert_allclose(logits_of(answer.json()), linear_logits(digits.file, x), atol=1e-4)


def test_an_image_of_another_size_is_resized(client: httpx.Client, digits: Registered, x: np.ndarray) -> None:
    large = np.repeat(np.repeat(x[:1], 4, axis=1), 4, axis=2)
    assert predicted(client, model=digits.name, inputs=large.tolist())["timing"]["batch_size"] == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_give_values_in_the_datasets_units(
    client: httpx.Client, diabetes: Registered, engine: str
) -> None:
    about = diabetes.file.card.preprocessing
    rows = np.random.default_rng(0).normal(about.mean, about.std, (4, 10))
    by_name = [dict(zip(about.columns, row, strict=True)) for row in rows.tolist()]
    lists = predicted(client, model=diabetes.name, inputs=rows.tolist(), engine=engine)
    objects = predicted(client, model=diabetes.name, inputs=by_name, engine=engine)
    assert lists["predictions"] == objects["predictions"]
    expected = (
        linear_logits(diabetes.file, rows.astype(np.float32))[:, 0] * about.target_std + about.target_mean
    )
    values = [prediction["value"] for prediction in lists["predictions"]]
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    assert lists["predictions"][0].keys() == {"value"}


def test_a_model_is_meant_by_name_version_alias_or_job(
    client: httpx.Client, register: Register, x: np.ndarray
) -> None:
    first, second = (register(name="meant", seed=seed) for seed in (5, 6))
    client.put("/models/meant/aliases/old", json={"version": first.version})

    def version(reference: str) -> int:
        answer = predicted(client, model=reference, inputs=x[:1].tolist())
        number: int = answer["model"]["version"]
        return number

    assert version("meant") == version(f"meant@{second.version}") == version(second.job_id) == second.version
    assert version("meant@old") == version(first.job_id) == version(f"meant@{first.version}") == first.version
    client.put("/models/meant/aliases/champion", json={"version": first.version})
    assert version("meant") == version("meant@champion") == first.version
    client.delete(f"/models/meant/versions/{first.version}")
    assert version("meant") == second.version
    gone = client.post("/predict", json={"model": f"meant@{first.version}", "inputs": x[:1].tolist()})
    assert_problem(gone, 404, "/model")


def test_a_model_may_be_named_like_the_beginning_of_an_id(
    client: httpx.Client, register: Register, x: np.ndarray
) -> None:
    register(name="job_model")
    for reference in ("job_model", "job_model@1", "job_model@champion"):
        assert predicted(client, model=reference, inputs=x[:1].tolist())["model"]["name"] == "job_model"


def test_auto_takes_the_engine_that_is_ready_else_the_one_that_trained(
    client: httpx.Client, register: Register, x: np.ndarray
) -> None:
    register(name="trained-by-torch", seed=30)
    register(name="trained-by-jax", seed=31, framework="jax")

    def engine(model: str, asked: str = "auto") -> str:
        used: str = predicted(client, model=model, inputs=x[:1].tolist(), engine=asked)["engine"]
        return used

    assert engine("trained-by-torch", "jax") == "jax"
    assert engine("trained-by-torch") == "jax"
    assert engine("trained-by-torch", "torch") == "torch"
    assert engine("trained-by-torch") == "torch"
    assert engine("trained-by-jax") == "jax"


def test_many_at_once_load_the_model_once(
    client: httpx.Client, server: Running, register: Register, x: np.ndarray
) -> None:
    register(name="wanted-by-many", seed=40)
    before = server.services.predictions.cache.state()["loads"]
    body = {"model": "wanted-by-many", "inputs": x.tolist(), "return": ["logits"]}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/predict", json=body), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({json.dumps(answer.json()["predictions"]) for answer in answers}) == 1
    assert server.services.predictions.cache.state()["loads"] == before + 1


def test_flipped_bits_are_refused_and_the_rest_keeps_serving(
    client: httpx.Client, server: Running, register: Register, digits: Registered, x: np.ndarray
) -> None:
    bad = register(name="flipped", seed=50)
    path = server.services.store.path(bad.sha256)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    for _ in range(2):
        answer = client.post("/predict", json={"model": bad.name, "inputs": x.tolist()})
        assert_problem(answer, 503, None, "damaged")
        assert answer.json()["code"] == "corrupt_artifact"
    predicted(client, model=digits.name, inputs=x.tolist())
    path.unlink()
    assert_problem(client.post("/predict", json={"model": bad.name, "inputs": x.tolist()}), 503, None, "lost")


def test_predictions_are_counted(client: httpx.Client, register: Register, x: np.ndarray) -> None:
    register(name="counted-model", seed=60)
    size_bytes = client.get("/models/counted-model/versions/1").json()["size_bytes"]
    predicted(client, model="counted-model", inputs=x.tolist(), engine="torch")
    text = client.get("/metrics").text
    assert 'tandem_predictions_total{engine="torch",model="counted-model",process="0"} 3.0' in text
    assert "tandem_model_cache_models" in text
    held = 'engine="torch",model="counted-model",precision="float32",process="0",version="1"'
    assert f"tandem_model_memory_bytes{{{held}}} {float(size_bytes)}" in text
    assert 'tandem_jobs{framework="torch",status="succeeded"}' in text


IMAGE = [[0] * 8] * 8


@pytest.mark.parametrize(
    ("changes", "status", "pointer", "hint"),
    [
        ({"model": "digit-linear"}, 404, "/model", "Did you mean 'digits-linear'?"),
        ({"model": "digits-linear@9999"}, 404, None, "no version 9999"),
        ({"model": "digits-linear@nope"}, 404, "/model", "no alias 'nope'"),
        ({"model": "job_nope"}, 404, "/model", "no job 'job_nope'"),
        ({"model": ""}, 422, "/model", "pattern"),
        ({"model": "no name"}, 422, "/model", "pattern"),
        ({"model": 3}, 422, "/model", "valid string"),
        ({"modle": "x"}, 422, "/modle", "Did you mean 'model'?"),
        ({"engine": "pytorch"}, 422, "/engine", "Did you mean 'torch'?"),
        ({"top_k": 0}, 422, "/top_k", "greater than or equal to 1"),
        ({"top_k": 10**20}, 422, "/top_k", "less than or equal to 10000"),
        ({"top_k": -(10**20)}, 422, "/top_k", "greater than or equal to 1"),
        ({"top_k": 1.5}, 422, "/top_k", "valid integer"),
        ({"top_k": "3"}, 422, "/top_k", "valid integer"),
        ({"top_k": True}, 422, "/top_k", "valid integer"),
        ({"return": ["label"]}, 422, "/return/0", "Did you mean 'labels'?"),
        ({"return": []}, 422, "/return", "at least 1"),
        ({"return": "labels"}, 422, "/return", "valid list"),
        ({"inputs": []}, 422, "/inputs", "at least 1"),
        ({"inputs": None}, 422, "/inputs", "valid list"),
        ({"inputs": {"image": "x"}}, 422, "/inputs", "valid list"),
        ({"inputs": [IMAGE, "text"]}, 422, "/inputs/1", "a text"),
        ({"inputs": [3]}, 422, "/inputs/0", "a number"),
        ({"inputs": [None]}, 422, "/inputs/0", "null"),
        ({"inputs": [[[0] * 8] * 7 + [[0] * 7]]}, 422, "/inputs/0", "ragged"),
        ({"inputs": [[[0, [1]]]]}, 422, "/inputs/0", "ragged"),
        ({"inputs": [[[[0, 0]]]]}, 422, "/inputs/0", "shape"),
        ({"inputs": [[[256] * 8] * 8]}, 422, "/inputs/0", "0 to 255"),
        ({"inputs": [[[-1] * 8] * 8]}, 422, "/inputs/0", "0 to 255"),
        ({"inputs": [[["0"] * 8] * 8]}, 422, "/inputs/0", "a text"),
        ({"inputs": [[[True] * 8] * 8]}, 422, "/inputs/0", "a boolean"),
        ({"inputs": [{"image": "no base64!"}]}, 422, "/inputs/0/image", "base64"),
        ({"inputs": [{"image": "aGVsbG8="}]}, 422, "/inputs/0", "not a readable image"),
        ({"inputs": [{"image": 5}]}, 422, "/inputs/0/image", "text"),
        ({"inputs": [{"imge": "x"}]}, 422, "/inputs/0/imge", "Did you mean 'image'?"),
        ({"inputs": [{"image": "aGVsbG8=", "a/b": 1}]}, 422, "/inputs/0/a~1b", "Unknown field 'a/b'"),
        ({"inputs": [{"image": "https://example.org/x.png"}]}, 422, "/inputs/0/image", "not fetched"),
        ({"inputs": [IMAGE] * 1025}, 413, "/inputs", "1024"),
    ],
)
def test_each_wrong_request_is_explained(
    client: httpx.Client,
    digits: Registered,
    changes: dict[str, Any],
    status: int,
    pointer: str | None,
    hint: str,
) -> None:
    body = {"model": digits.name, "inputs": [IMAGE], **changes}
    assert_problem(client.post("/predict", json=body), status, pointer, hint)


def test_an_unknown_field_of_an_input_is_named_as_one(client: httpx.Client, digits: Registered) -> None:
    content = {"model": digits.name, "inputs": [IMAGE, {"image": "aGVsbG8=", "foo": 1}]}
    (fault,) = client.post("/predict", json=content).json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/inputs/1/foo", "unknown_field")


@pytest.mark.parametrize(
    ("inputs", "pointer", "hint"),
    [
        ([[1.0] * 9], "/inputs/0", "9 value(s)"),
        ([[1.0] * 10, ["1"] * 10], "/inputs/1/0", "not a number"),
        ([{"age": 1}], "/inputs/0", "Missing"),
        ([dict.fromkeys(["agee", "sex"], 1)], "/inputs/0/agee", "Unknown column 'agee'"),
        ([[1e39] * 10], "/inputs/0/0", "age"),
        ([[None] * 10], "/inputs/0/0", "missing"),
        ([IMAGE], "/inputs/0", "8 value(s)"),
        ([[3e38] * 10], "/inputs/0", "not a finite number"),
    ],
)
def test_each_wrong_row_is_explained(
    client: httpx.Client, diabetes: Registered, inputs: list[Any], pointer: str, hint: str
) -> None:
    answer = client.post("/predict", json={"model": diabetes.name, "inputs": inputs})
    assert_problem(answer, 422, pointer, hint)


@pytest.mark.parametrize(
    ("url", "content_type", "content", "status", "pointer"),
    [
        ("/predict", "image/png", b"x", 422, "/model"),
        ("/predict?model=digits-linear", "image/png", b"", 422, None),
        ("/predict?model=digits-linear", "image/png", b"no image", 422, "/inputs/0"),
        ("/predict?model=digits-linear&modl=x", "image/png", b"x", 422, "/modl"),
        ("/predict?model=digits-linear&top_k=many", "image/png", b"x", 422, "/top_k"),
        ("/predict?model=digits-linear&return=label", "image/png", b"x", 422, "/return/0"),
        ("/predict?model=digits-linear", "image/gif", b"GIF89a", 415, "/headers/content-type"),
        ("/predict?model=digits-linear", "text/plain", b"{}", 415, "/headers/content-type"),
        ("/predict?model=digits-linear", "application/json", b"{}", 422, "/model"),
        ("/predict", "application/json", b"[]", 422, None),
        ("/predict", "application/json", b"", 400, None),
        (
            "/predict",
            "application/json",
            b'{"model": "digits-linear", "inputs": [[NaN]]}',
            422,
            "/inputs/0/0",
        ),
        ("/predict", "application/json", b'{"model": "a", "inputs": [[1]], "model": "b"}', 422, "/model"),
        ("/predict", "multipart/form-data; boundary=x", b"--x--\r\n", 422, "/file"),
        (
            "/predict?model=digits-linear",
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--x--\r\n',
            422,
            "/image",
        ),
    ],
)
def test_each_wrong_body_is_explained(
    client: httpx.Client,
    digits: Registered,
    url: str,
    content_type: str,
    content: bytes,
    status: int,
    pointer: str,
) -> None:
    answer = client.post(url, content=content, headers={"Content-Type": content_type})
    assert_problem(answer, status, pointer)
