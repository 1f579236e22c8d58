"""A reduced precision is used only if it was asked for, and only where it keeps the labels of the validation split."""

from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from app.prediction.precision import kept_labels
from models.data.builtin import BUILTIN
from models.engine import Predictor
from models.framework import ENGINES
from models.serving import LEAST_AGREEMENT, Serving
from tests.app.serving import Registered, Running, assert_problem, linear_logits, registered

DIGITS = BUILTIN["digits"].load(None)  # type: ignore[arg-type]  # scikit-learn has it
BFLOAT16 = {"serving": {"precision": "bfloat16"}}


def fitted() -> dict[str, np.ndarray]:
    """A linear model's weights that tell digits apart."""
    about = DIGITS.preprocessing.normalisation  # type: ignore[union-attr]
    x = ((DIGITS.train.array - about.mean) * about.inverse_std).reshape(len(DIGITS.train), -1)
    found = LogisticRegression(max_iter=500).fit(x, DIGITS.train.y)
    return {
        "linear.weight": found.coef_.astype(np.float32),
        "linear.bias": found.intercept_.astype(np.float32),
    }


def alike() -> dict[str, np.ndarray]:
    """Weights with which all classes score nearly the same: rounding decides."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(1, 64)) + generator.normal(size=(10, 64)) * 1e-4
    return {"linear.weight": weight.astype(np.float32), "linear.bias": np.zeros(10, np.float32)}


def logits(client: httpx.Client, model: str, x: np.ndarray, engine: str) -> np.ndarray:
    body: dict[str, Any] = {"model": model, "inputs": x.tolist(), "engine": engine, "return": ["logits"]}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return np.array([one["logits"] for one in answer.json()["predictions"]])


def test_a_precision_that_keeps_the_labels_is_used_until_another_is_chosen(server: Running) -> None:
    client, model = server.client, registered(server.services, name="sure", weights=fitted())
    x = DIGITS.test.array[:20]
    exact = linear_logits(model.file, x)
    answer = client.patch("/models/sure/versions/1", json=BFLOAT16)
    assert answer.status_code == 200, answer.text
    serving = answer.json()["serving"]
    assert serving["precision"] == "bfloat16"
    assert serving["agreement"].keys() == set(ENGINES)
    assert all(share >= LEAST_AGREEMENT for share in serving["agreement"].values())
    assert client.get("/models/sure/versions/1").json()["serving"] == serving
    reduced = {name: logits(client, "sure", x, name) for name in ("torch", "jax")}
    for found in reduced.values():
        assert 1e-3 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()
    evidence = client.get("/models/sure/versions/1/engines").json()
    assert {one["name"]: one["precision"] for one in evidence["engines"]} == dict.fromkeys(
        ENGINES, "bfloat16"
    )
    assert {one["name"]: one["agreement"] for one in evidence["engines"]} == serving["agreement"]
    assert "in bfloat16" in evidence["reason"]
    assert (
        client.post("/predict", json={"model": "sure", "inputs": x.tolist()}).json()["engine"]
        == evidence["choice"]
    )
    answer = client.patch("/models/sure/versions/1", json={"serving": {"precision": "float32"}})
    assert answer.json()["serving"] == {"precision": "float32", "agreement": {}}
    for name in ENGINES:
        np.testing.assert_allclose(logits(client, "sure", x, name), exact, atol=1e-3)
    evidence = client.get("/models/sure/versions/1/engines").json()
    assert {one["precision"] for one in evidence["engines"]} == {"float32"}


def test_a_precision_that_changes_labels_is_refused(server: Running) -> None:
    client, model = server.client, registered(server.services, name="unsure", weights=alike())
    assert_problem(
        client.patch("/models/unsure/versions/1", json=BFLOAT16), 422, "/serving/precision", "at least 99.5%"
    )
    assert client.get("/models/unsure/versions/1").json()["serving"]["precision"] == "float32"
    x = DIGITS.test.array[:20]
    np.testing.assert_allclose(logits(client, "unsure", x, "torch"), linear_logits(model.file, x), atol=1e-4)


class Fixed:
    """Gives these labels, whatever it is asked."""

    device = "cpu"

    def __init__(self, *labels: int) -> None:
        self.labels = labels

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[self.labels[int(one)] for one in x]]

    def warm_up(self, example: np.ndarray, rows: int) -> None:
        pass


def test_agreement_is_the_share_of_rows_over_all_batches() -> None:
    reduced: dict[Any, Predictor] = {"torch": Fixed(0, 1, 2, 0), "jax": Fixed(0, 1, 0, 1)}
    batches = [np.arange(3), np.arange(3, 4)]
    assert kept_labels(Fixed(0, 1, 2, 0), reduced, batches) == {"torch": 1.0, "jax": 0.5}


def test_an_engine_that_keeps_too_few_labels_computes_in_float32() -> None:
    serving = Serving(
        precision="bfloat16", agreement={"torch": LEAST_AGREEMENT, "jax": LEAST_AGREEMENT - 1e-6}
    )
    assert [serving.on(name) for name in ENGINES] == ["bfloat16", "float32", "float32"]


@pytest.mark.parametrize(
    ("model", "body", "status", "pointer", "hint"),
    [
        ("sure-enough", {"serving": {"precision": "bfloat61"}}, 422, "/serving/precision", "bfloat16"),
        ("sure-enough", {"serving": {}}, 422, "/serving/precision", ""),
        ("sure-enough", {"serve": {}}, 422, "/serve", "serving"),
        ("nobody", BFLOAT16, 404, None, "nobody"),
        ("values", BFLOAT16, 422, "/serving/precision", "predicts a number"),
    ],
)
def test_what_cannot_be_chosen_is_explained(
    model: str, body: Any, status: int, pointer: str | None, hint: str, server: Running
) -> None:
    for name, dataset in (("sure-enough", "digits"), ("values", "diabetes")):
        if server.client.get(f"/models/{name}").status_code == 404:
            registered(server.services, dataset=dataset, name=name)
    assert_problem(server.client.patch(f"/models/{model}/versions/1", json=body), status, pointer, hint)


def test_labels_need_a_dataset(server: Running) -> None:
    client = server.client
    lines = "\n".join(f"{i},{i % 2}" for i in range(60))
    file = {"file": ("t.csv", f"a,y\n{lines}")}
    fields = {"name": "going", "task": "tabular-classification", "target": "y"}
    assert client.post("/datasets", files=file, data=fields).status_code == 201
    registered(server.services, dataset="going", name="orphan")
    assert client.delete("/datasets/going").status_code == 200
    assert_problem(client.patch("/models/orphan/versions/1", json=BFLOAT16), 422, None, "dataset was deleted")


def test_a_change_of_precision_fails_no_request(server: Running) -> None:
    """Each answer is that of one precision or the other."""
    model: Registered = registered(server.services, name="switched", weights=fitted())
    x = DIGITS.test.array[:4]
    expected = linear_logits(model.file, x)
    for precision in ("bfloat16", "float32", "bfloat16"):
        change = {"serving": {"precision": precision}}
        assert server.client.patch("/models/switched/versions/1", json=change).status_code == 200
        found = logits(server.client, "switched", x, "torch")
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
        assert bool(np.abs(found - expected).max() < 1e-4) is (precision == "float32")
