"""Post a dataset and a spec, train in either framework, predict on either: through HTTP on the real stack."""

import base64
import json
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from app.client import Tandem, TandemAPIError
from models.catalog import implementation
from models.data.builtin import BUILTIN
from models.framework import FRAMEWORKS
from models.weights import read_weights

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def digits():
    return BUILTIN["digits"].load(Path())


@pytest.fixture(scope="session")
def trained(tandem_up):
    """One finished job for each framework: the same small network on the same batches."""
    with Tandem(tandem_up) as tandem:
        jobs = {
            framework: tandem.create_job(
                {
                    "framework": framework,
                    "dataset": "digits",
                    "model": {"architecture": "cnn", "width": 16, "stages": 2},
                    "training": {"epochs": 8, "seed": 3},
                    "name": f"e2e-{framework}",
                }
            )
            for framework in FRAMEWORKS
        }
        return {framework: tandem.wait(job.id) for framework, job in jobs.items()}


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_job_succeeds_and_says_what_it_did(trained, framework):
    job = trained[framework]
    assert job.status == "succeeded", job
    assert job.result.model == f"e2e-{framework}"
    assert job.metrics["test_accuracy"] > 0.9
    assert job.progress.step == job.progress.total_steps > 0
    assert job.device == "cpu"
    assert job.timing["train_s"] > 0
    assert job.timing["samples_per_s"] > 0
    assert job.dataset.sha256 is not None


def test_both_frameworks_report_the_same_curve(tandem, trained):
    torch_curve, jax_curve = (tandem.metrics(trained[framework].id) for framework in FRAMEWORKS)
    assert torch_curve["step"] == jax_curve["step"]
    losses = [
        np.array([value for value in curve["train_loss"] if value is not None])
        for curve in (torch_curve, jax_curve)
    ]
    assert len(losses[0]) > 50
    # float32 networks drift apart with the steps; float64 parity is tested in tests/models/test_parity.py.
    np.testing.assert_allclose(losses[0][:10], losses[1][:10], atol=2e-4)
    np.testing.assert_allclose(losses[0].mean(), losses[1].mean(), rtol=0.05)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_engine_serves_every_model_with_equal_results(tandem, trained, digits, framework):
    images = [png(pixels) for pixels in digits.test.x[:64]]
    answers = {
        engine: tandem.predict(f"e2e-{framework}", images, engine=engine, returns=["labels", "logits"])
        for engine in FRAMEWORKS
    }
    assert [answers[engine].engine for engine in FRAMEWORKS] == list(FRAMEWORKS)
    logits = [np.array([found.logits for found in answers[engine].predictions]) for engine in FRAMEWORKS]
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4
    labels = [int(found.label) for found in answers["torch"].predictions]
    assert np.mean(labels == digits.test.y[:64]) > 0.85


def test_every_form_of_input_gives_the_same_answer(tandem_up, trained, digits):
    pixels, name = digits.test.x[0], "e2e-torch"
    image = png(pixels)
    encoded = base64.b64encode(image).decode()
    asked = {"model": name, "return": ["logits"], "engine": "torch"}
    query = {"model": name, "return": "logits", "engine": "torch"}
    url = f"{tandem_up}/predict"
    answers = {
        "base64": httpx.post(url, json={**asked, "inputs": [{"image": encoded}]}),
        "pixels with channel": httpx.post(url, json={**asked, "inputs": [pixels.tolist()]}),
        "pixels": httpx.post(url, json={**asked, "inputs": [pixels[..., 0].tolist()]}),
        "raw": httpx.post(url, params=query, content=image, headers={"Content-Type": "image/png"}),
        "multipart": httpx.post(url, params=query, files=[("file", ("a.png", image, "image/png"))]),
        "no content type": httpx.post(url, content=json.dumps({**asked, "inputs": [pixels.tolist()]})),
        "by job": httpx.post(
            url, json={**asked, "model": trained["torch"].id, "inputs": [{"image": encoded}]}
        ),
    }
    assert {form: answer.status_code for form, answer in answers.items()} == dict.fromkeys(answers, 200)
    logits = [answer.json()["predictions"][0]["logits"] for answer in answers.values()]
    for found in logits[1:]:
        np.testing.assert_allclose(found, logits[0], atol=1e-6)


def test_top_k_and_probabilities_are_in_order_and_sum_to_one(tandem, trained, digits):
    found = tandem.predict(
        "e2e-jax", [png(digits.test.x[0])], top_k=10, returns=["labels", "probabilities"]
    ).predictions[0]
    scores = [choice.score for choice in found.top]
    assert scores == sorted(scores, reverse=True)
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-9)
    assert found.label == found.top[0].label
    assert found.score == found.top[0].score


def test_the_downloaded_weights_load_into_the_torch_network_as_they_are(tandem, trained, digits, tmp_path):
    path = tandem.download_weights("e2e-jax", trained["jax"].result.version, tmp_path / "w.safetensors")
    card = read_weights(path).card
    network = implementation(card.model, "torch").build(card.model, card.signature)
    network.load_state_dict(load_file(path))
    normalisation = card.preprocessing.normalisation
    x = (digits.test.x[:8].astype(np.float32) - normalisation.mean) * normalisation.inverse_std
    with torch.inference_mode():
        expected = network.eval()(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    answer = tandem.predict("e2e-jax", [png(pixels) for pixels in digits.test.x[:8]], returns=["logits"])
    np.testing.assert_allclose([found.logits for found in answer.predictions], expected, atol=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_uploaded_table_trains_and_predicts(tandem, tmp_path, framework):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 3))
    lines = ["width,height,weight,kind"]
    lines += [f"{a:.4f},{b:.4f},{c:.4f},{'big' if a + b > 0 else 'small'}" for a, b, c in rows]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    dataset = tandem.upload_dataset(
        tmp_path / "boxes.csv", name=f"boxes-{framework}", task="tabular-classification", target="kind"
    )
    assert list(dataset.classes) == ["big", "small"]
    job = tandem.wait(
        tandem.create_job(
            {
                "framework": framework,
                "dataset": dataset.name,
                "model": {"architecture": "mlp", "hidden": [16]},
                "training": {"epochs": 20, "optimizer": {"name": "adam", "learning_rate": 0.01}},
            }
        ).id
    )
    assert job.status == "succeeded", job
    assert job.result.model == f"boxes-{framework}-mlp"
    answer = tandem.predict(
        job.result.model, [[2.0, 2.0, 0.0], {"weight": 0.0, "height": -2.0, "width": -2.0}]
    )
    assert [found.label for found in answer.predictions] == ["big", "small"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_regression_answers_in_the_targets_units(tandem, framework):
    job = tandem.wait(
        tandem.create_job(
            {
                "framework": framework,
                "dataset": "diabetes",
                "model": {"architecture": "linear"},
                "training": {"epochs": 60},
                "name": f"progression-{framework}",
            }
        ).id
    )
    assert job.status == "succeeded", job
    data = BUILTIN["diabetes"].load(Path())
    answer = tandem.predict(job.result.model, data.test.x[:40].tolist())
    values = np.array([found.value for found in answer.predictions])
    error = np.sqrt(np.mean((values - data.test.y[:40]) ** 2))
    assert error < 80
    assert job.metrics["test_rmse"] == pytest.approx(54, abs=15)


def test_a_finished_job_goes_on_in_the_other_framework(tandem):
    spec = {
        "dataset": "digits",
        "model": {"architecture": "mlp", "hidden": [32]},
        "training": {"epochs": 2, "precision": "float64"},
        "name": "handed-over",
    }
    first = tandem.wait(tandem.create_job({**spec, "framework": "torch"}).id)
    assert first.status == "succeeded", first
    continued = {**spec, "framework": "jax", "init": {"from": {"job": first.id}}}
    with pytest.raises(TandemAPIError, match="ask for more epochs"):
        tandem.create_job(continued)
    ended = tandem.wait(tandem.create_job({**continued, "training": {**spec["training"], "epochs": 4}}).id)
    assert ended.status == "succeeded", ended
    assert ended.progress.step == ended.progress.total_steps == 2 * first.progress.step
    assert min(tandem.metrics(ended.id)["step"]) > first.progress.step
    before = tandem.metrics(first.id)["train_loss"]
    after = [value for value in tandem.metrics(ended.id)["train_loss"] if value is not None]
    assert np.mean(after) < np.mean([value for value in before if value is not None])
