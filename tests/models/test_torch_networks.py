"""The torch networks: names, shapes, and torchvision's own ResNet."""

import math

import numpy as np
import pytest
import torch
import torchvision

from models.catalog import architectures, declarations, implementation
from models.initial import initial_weights
from models.signature import ImageInput, Signature, TableInput
from models.text_spec import TextSpec


def image(side, channels, classes=10, width=None):
    return Signature(
        task="image-classification",
        input=ImageInput(height=side, width=width or side, channels=channels),
        outputs=classes,
    )


TABLE = Signature(
    task="tabular-classification", input=TableInput(features=4, columns=tuple("abcd")), outputs=3
)
REGRESSION = Signature(
    task="tabular-regression", input=TableInput(features=4, columns=tuple("abcd")), outputs=1
)
CASES = [
    ("linear", {}, image(8, 3)),
    ("linear", {}, TABLE),
    ("linear", {}, REGRESSION),
    ("mlp", {}, image(8, 1)),
    ("mlp", {"hidden": (7, 5), "activation": "gelu"}, TABLE),
    ("mlp", {"hidden": (6,), "activation": "tanh"}, REGRESSION),
    ("cnn", {}, image(8, 1)),
    ("cnn", {"width": 4, "stages": 1}, image(13, 3, width=11)),
    ("cnn", {"width": 8, "stages": 4}, image(64, 3)),
    ("resnet18", {}, image(32, 1)),
    ("resnet18", {"stem": "cifar"}, image(8, 3, classes=100)),
    ("resnet34", {"stem": "cifar"}, image(9, 1, width=14)),
    ("resnet50", {}, image(40, 1)),
    ("resnet50", {"stem": "cifar"}, image(12, 3)),
    ("vgg11", {"width": 4, "hidden": 16}, image(32, 1)),
    ("vgg16", {"width": 4, "hidden": 16, "dropout": 0.0}, image(40, 3, width=70)),
    ("convnext_tiny", {"depths": (1, 1, 2, 1), "widths": (8, 6, 12, 10)}, image(32, 1)),
    ("convnext_tiny", {"depths": (1, 1, 1, 1), "widths": (4, 4, 4, 4)}, image(47, 3, width=33)),
    ("vit", {"patch_size": 7, "layers": 2, "heads": 3, "hidden": 12, "mlp": 20}, image(28, 1)),
    ("vit", {"patch_size": 4, "layers": 1, "heads": 1, "hidden": 12, "mlp": 20}, image(8, 3)),
]


def build(name, options, signature):
    spec = architectures()[name](**options)
    return spec, implementation(spec, "torch").build(spec, signature)


def loaded(name, options, signature):
    spec, network = build(name, options, signature)
    weights = initial_weights(spec, signature, seed=1)
    network.load_state_dict({key: torch.tensor(array) for key, array in weights.items()})
    return network.eval(), weights


def test_every_architecture_has_a_case():
    """Those for texts have theirs in test_text_networks."""
    others = {name for name, spec in architectures().items() if not issubclass(spec, TextSpec)}
    assert {name for name, _, _ in CASES} == others


@pytest.mark.parametrize(("name", "options", "signature"), CASES)
def test_the_state_dict_is_what_the_spec_declares(name, options, signature):
    spec, network = build(name, options, signature)
    found = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in network.state_dict().items()}
    declared = {
        key: (tensor.shape, torch.int64 if tensor.dtype is np.int64 else torch.float32)
        for key, tensor in declarations(spec, signature).items()
    }
    assert list(found.items()) == list(declared.items())
    parameters = {key for key, tensor in declarations(spec, signature).items() if tensor.kind == "parameter"}
    assert {key for key, _ in network.named_parameters()} == parameters


@pytest.mark.parametrize(("name", "options", "signature"), CASES)
def test_logits_have_one_row_a_sample_and_one_column_an_output(name, options, signature):
    network, _ = loaded(name, options, signature)
    shape = signature.input.shape
    x = torch.randn(2, *shape).permute(0, 3, 1, 2) if len(shape) == 3 else torch.randn(2, *shape)
    assert network(x).shape == (2, signature.outputs)


def test_resnet18_equals_torchvisions_on_the_same_weights():
    network, weights = loaded("resnet18", {}, image(64, 3, classes=12))
    theirs = torchvision.models.resnet18(num_classes=12).eval()
    theirs.load_state_dict({key: torch.tensor(array) for key, array in weights.items()})
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(x), theirs(x), rtol=0, atol=1e-5)


def test_the_cifar_stem_keeps_the_images_size():
    network, _ = loaded("resnet18", {"stem": "cifar"}, image(32, 3))
    sizes = {}
    network.layer1.register_forward_hook(lambda module, inputs, output: sizes.update(layer1=output.shape))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes["layer1"] == (1, 64, 32, 32)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_the_mlp_is_its_formula(activation):
    network, weights = loaded("mlp", {"hidden": (5,), "activation": activation}, TABLE)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    hidden = x @ weights["layers.0.weight"].T + weights["layers.0.bias"]
    erf = np.vectorize(math.erf)
    active = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    }[activation](hidden)
    expected = active @ weights["layers.1.weight"].T + weights["layers.1.bias"]
    assert np.allclose(network(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-6)
