"""The OpenVINO engine computes what torch computes, for every network that it can run."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models import engine
from models.catalog import architectures
from models.engine import Definition
from models.errors import NotInstalled, NotSupported
from models.exports.checking import texts
from models.initial import initial_weights
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput, TokenInput

SPECS = architectures()
TOKENS = TokenInput(vocabulary=50, length=24, padding=0)
CASES = {
    "linear": (SPECS["linear"](), ImageInput(height=6, width=9, channels=3)),
    "mlp": (SPECS["mlp"](hidden=(8,)), TableInput(features=3, columns=("a", "b", "c"))),
    "cnn": (SPECS["cnn"](width=4, stages=2), ImageInput(height=12, width=9, channels=1)),
    "resnet18": (SPECS["resnet18"](stem="cifar"), ImageInput(height=8, width=8, channels=3)),
    "resnet50": (SPECS["resnet50"](), ImageInput(height=32, width=32, channels=3)),
    "vgg11": (SPECS["vgg11"](width=4, hidden=16), ImageInput(height=32, width=32, channels=3)),
    "convnext_tiny": (
        SPECS["convnext_tiny"](depths=(1, 1, 1, 1), widths=(4, 6, 8, 10)),
        ImageInput(height=32, width=35, channels=3),
    ),
    "vit": (
        SPECS["vit"](patch_size=4, layers=2, heads=2, hidden=16, mlp=24),
        ImageInput(height=16, width=16, channels=1),
    ),
    "transformer": (SPECS["transformer"](layers=1, heads=2, hidden=8, mlp=12, length=24), TOKENS),
    "distilbert": (
        SPECS["distilbert"](layers=1, heads=2, hidden=8, mlp=12, positions=30, length=24), TOKENS,
    ),
}  # fmt: skip

LARGER = {f"classifier.{layer}.weight" for layer in (0, 3, 6)}
"""Weights of vgg that start so small that all samples look alike."""


def about(name):
    spec, input = CASES[name]
    task = {"table": "tabular-classification", "tokens": "text-classification"}.get(
        input.kind, "image-classification"
    )
    signature = Signature(task=task, input=input, outputs=5)
    normalisation = None
    if input.kind != "tokens":
        size = input.shape[-1]
        normalisation = Normalisation(np.full(size, 90, np.float32), np.full(size, 0.02, np.float32))
    generator = np.random.default_rng(1)
    weights = {
        name: generator.normal(0, 0.3, array.shape).astype(np.float32)
        if array.ndim == 2 and not array.any()
        else array * (3 if array.ndim > 1 and name in LARGER else 1)
        for name, array in initial_weights(spec, signature, 0).items()
    }
    return Definition(spec, signature, normalisation), weights


def batch(input, rows, seed=0):
    generator = np.random.default_rng(seed)
    match input:
        case TokenInput():
            return texts(generator, input, rows, 1 + rows % input.length)
        case ImageInput():
            return generator.integers(0, 256, (rows, *input.shape), dtype=np.uint8)
    return generator.normal(90, 40, (rows, *input.shape)).astype(np.float32)


def predictors(name, precision="float32"):
    definition, weights = about(name)
    return [
        engine.load_server(one).predictor(definition, weights, precision=chosen)
        for one, chosen in (("openvino", precision), ("torch", "float32"))
    ]


@pytest.mark.parametrize("name", CASES)
def test_every_batch_gives_torchs_logits(name):
    found, reference = predictors(name)
    for rows in (1, 7, 2, 33):
        x = batch(CASES[name][1], rows, rows)
        expected = reference.logits(x)
        logits = found.logits(x)
        assert (logits.shape, logits.dtype) == ((rows, 5), np.float32)
        np.testing.assert_allclose(logits, expected, atol=2e-5 * max(1, np.abs(expected).max()))
    assert expected.std(axis=0).max() > 1e-4


def test_normalised_images_are_taken_as_they_are():
    found, reference = predictors("cnn")
    x = np.random.default_rng(0).normal(size=(3, 1, 12, 9)).astype(np.float32)
    np.testing.assert_allclose(found.logits(x), reference.logits(x), atol=1e-5)


def test_bfloat16_is_near_and_another():
    found, reference = predictors("cnn", "bfloat16")
    x = batch(CASES["cnn"][1], 16)
    np.testing.assert_allclose(found.logits(x), reference.logits(x), atol=0.05)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("case", ["cnn", "mlp", "transformer"])
def test_frameworks_serve_in_bfloat16_too(name, case):
    definition, weights = about(case)
    found = engine.load_server(name).predictor(definition, weights, precision="bfloat16")
    exact = engine.load_server(name).predictor(definition, weights)
    x = batch(CASES[case][1], 5)
    logits, expected = found.logits(x), exact.logits(x)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < 0.05 * max(1, np.abs(expected).max())


def test_threads_get_their_own_answers():
    found, reference = predictors("cnn")
    x = batch(CASES["cnn"][1], 40)
    expected, wrong = reference.logits(x), []

    def ask(start):
        for row in [*range(start, 40, 4)] * 5:
            if not np.allclose(found.logits(x[row : row + 1])[0], expected[row], atol=1e-5):
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_models_may_be_loaded_at_the_same_time():
    call = torch.nn.Module.__call__
    with ThreadPoolExecutor(3) as threads:
        loaded = list(threads.map(predictors, ("cnn", "resnet18", "vit")))
    assert torch.nn.Module.__call__ is call
    for name, (found, reference) in zip(("cnn", "resnet18", "vit"), loaded, strict=True):
        x = batch(CASES[name][1], 3)
        np.testing.assert_allclose(found.logits(x), reference.logits(x), atol=2e-4)


def test_nobody_is_told_of_its_use():
    predictors("linear")
    assert sys.modules["openvino_telemetry"] is None


def test_a_network_that_it_cannot_run_is_refused():
    spec = SPECS["bilstm"](embedding=6, hidden=5, length=24)
    signature = Signature(task="text-classification", input=TOKENS, outputs=5)
    with pytest.raises(NotSupported, match="cannot run 'bilstm'"):
        engine.load_server("openvino").predictor(
            Definition(spec, signature, None), initial_weights(spec, signature, 0)
        )


def test_without_its_package_the_engine_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(engine.OPTIONAL, "openvino", "no_such_package")
    assert not engine.is_installed("openvino")
    with pytest.raises(NotInstalled, match=r"pip install 'tandem\[openvino\]'"):
        engine.load_server("openvino")
    assert engine.is_installed("torch")
