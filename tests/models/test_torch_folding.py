"""BatchNorm is folded where there is one, and the network computes what it did."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from models import engine
from models.frameworks.torch.folding import folded
from models.frameworks.torch.tensors import network_of
from tests.models.definitions import CASES, about, batch


def norms(network):
    return [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["cnn", "resnet18", "resnet50"])
def test_no_batch_norm_is_left_and_the_logits_stay(name):
    definition, weights = about(name)
    generator = np.random.default_rng(3)
    # Far from what they begin with, as after training.
    moved = {
        key: (array + generator.uniform(0.2, 0.6, array.shape)).astype(np.float32)
        if key.endswith(("running_mean", "running_var"))
        else array
        for key, array in weights.items()
    }
    network = network_of(definition, moved, torch.float32, torch.device("cpu")).eval()
    input = definition.signature.input
    x = torch.randn(5, input.channels, input.height, input.width, generator=torch.Generator().manual_seed(0))
    fewer = folded(network, x)
    assert norms(network)
    assert not norms(fewer)
    with torch.inference_mode():
        torch.testing.assert_close(fewer(x), network(x), rtol=1e-4, atol=1e-4)


def test_networks_without_batch_norm_are_left_alone():
    definition, weights = about("vgg11")
    network = network_of(definition, weights, torch.float32, torch.device("cpu")).eval()
    assert folded(network, torch.zeros(1, 3, 32, 32)) is network


class Forked(nn.Module):
    """What the convolution gives is needed as it is, too."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, x):
        y = self.convolution(x)
        return self.norm(y) + y


def test_a_convolution_whose_output_goes_elsewhere_too_is_left_alone():
    network = Forked().eval()
    with torch.no_grad():
        network.norm.running_var.fill_(9.0)
    assert folded(network, torch.ones(1, 1, 2, 2)) is network


def test_folding_disturbs_nobody_who_predicts_meanwhile():
    definition, weights = about("resnet18")
    server = engine.load_server("torch")
    predictor = server.predictor(definition, weights)
    x = batch(CASES["resnet18"][1], 2)
    expected = predictor.logits(x)
    with ThreadPoolExecutor(2) as threads:
        loads = [threads.submit(server.predictor, definition, weights) for _ in range(6)]
        while not all(one.done() for one in loads):
            np.testing.assert_allclose(predictor.logits(x), expected, rtol=1e-5, atol=1e-5)
    for one in loads:
        np.testing.assert_allclose(one.result().logits(x), expected, rtol=1e-5, atol=1e-5)


def test_a_network_that_would_compute_something_else_is_left_alone():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval()
    with torch.no_grad():
        network[1].running_var.fill_(float("nan"))
    assert folded(network, torch.ones(1, 1, 2, 2)) is network


@pytest.mark.parametrize("name", [name for name, (_, input) in CASES.items() if input.kind == "image"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictors_compute_what_jax_computes(name, precision):
    definition, weights = about(name)
    x = batch(CASES[name][1], 6)
    found = (
        engine.load_server("torch")
        .predictor(definition, weights, device="cpu", precision=precision)
        .logits(x)
    )
    expected = (
        engine.load_server("jax").predictor(definition, weights, device="cpu", precision="float32").logits(x)
    )
    tolerance = 1e-3 if precision == "float32" else 0.1
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())
