"""The OpenVINO engine computes what torch computes, for every network that it can run."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models import engine
from models.engine import Definition
from models.errors import NotInstalled, NotSupported
from models.initial import initial_weights
from models.signature import Signature
from tests.models.definitions import CASES, SPECS, TOKENS, about, batch


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
