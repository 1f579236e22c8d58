"""The vision networks against torchvision's own: names, sizes, logits, gradients and how the weights start."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from flax import nnx
from torchvision.models import get_weight

from models import engine
from models.architecture import truncated_normal
from models.catalog import architectures, declarations, implementation, parameter_count
from models.engine import Definition
from models.errors import InvalidInput
from models.frameworks.jax.network import Network
from models.frameworks.jax.noise import Dropout, StochasticDepth
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature

SPECS = architectures()


def images(side, channels=3, classes=5, width=None):
    taken = ImageInput(height=side, width=width or side, channels=channels)
    return Signature(task="image-classification", input=taken, outputs=classes)


IMAGENET = images(224, classes=1000)
VIT_L = {"layers": 24, "heads": 16, "hidden": 1024, "mlp": 4096}
PUBLISHED = {
    "resnet18": SPECS["resnet18"](),
    "resnet34": SPECS["resnet34"](),
    "resnet50": SPECS["resnet50"](),
    "vgg11": SPECS["vgg11"](),
    "vgg16": SPECS["vgg16"](),
    "convnext_tiny": SPECS["convnext_tiny"](),
    "vit_b_16": SPECS["vit"](),
    "vit_b_32": SPECS["vit"](patch_size=32),
    "vit_l_16": SPECS["vit"](**VIT_L),
    "vit_l_32": SPECS["vit"](patch_size=32, **VIT_L),
}
"""By torchvision's name."""


class ShallowResNet50(SPECS["resnet50"]):
    """With fewer blocks, for their compilation is dear; the whole network's logits are compared elsewhere."""

    blocks: ClassVar[tuple[int, ...]] = (1, 2, 1, 1)
    package: ClassVar[str] = "models.resnet"


SMALL = {
    "resnet50": (ShallowResNet50(), images(36)),
    "vgg11": (SPECS["vgg11"](width=3, hidden=11), images(33, width=70)),
    "convnext_tiny": (
        SPECS["convnext_tiny"](depths=(1, 1, 1, 1), widths=(6, 5, 8, 7)),
        images(37, width=33),
    ),
    "vit": (SPECS["vit"](patch_size=4, layers=2, heads=2, hidden=16, mlp=20), images(16, channels=1)),
}


def random_weights(spec, signature, dtype=np.float32):
    """Weights that keep activations near 1, and leave no tensor a zero or a one that hides a mistake."""
    generator = np.random.default_rng(3)
    return {
        name: _random(name, tensor, generator, dtype)
        for name, tensor in declarations(spec, signature).items()
    }


def _random(name, tensor, generator, dtype):
    if tensor.dtype is np.int64:
        return np.array(7)
    if name.endswith(("running_var", "layer_scale")) or (len(tensor.shape) == 1 and name.endswith("weight")):
        return generator.uniform(0.3, 0.9, tensor.shape).astype(dtype)
    drawn = generator.standard_normal(tensor.shape, dtype=np.float32).astype(dtype)
    if len(tensor.shape) > 1 and name.endswith("weight"):
        drawn *= dtype(np.sqrt(2 / np.prod(tensor.shape[1:])))
        return drawn
    return drawn * dtype(0.1)


def theirs(name):
    return getattr(torchvision.models, name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        found = {key: tuple(tensor.shape) for key, tensor in theirs(name)().state_dict().items()}
    declared = {key: tensor.shape for key, tensor in declarations(PUBLISHED[name], IMAGENET).items()}
    assert list(declared.items()) == list(found.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_are_torchvisions_own_and_have_as_many_parameters(name):
    published = PUBLISHED[name].published()
    assert torchvision.models.get_model_weights(name).DEFAULT.name in {
        published[0].name,
        "IMAGENET1K_V1",
    }
    for checkpoint in published:
        weights = get_weight(checkpoint.reference)
        assert weights in torchvision.models.get_model_weights(name)
        transforms = weights.transforms()
        assert (checkpoint.mean, checkpoint.std) == (tuple(transforms.mean), tuple(transforms.std))
        assert parameter_count(PUBLISHED[name], IMAGENET) == weights.meta["num_params"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet50", {"stem": "cifar"}),
        ("vgg16", {"width": 32}),
        ("vgg11", {"hidden": 512}),
        ("convnext_tiny", {"depths": (3, 3, 3, 3)}),
        ("vit", {"heads": 6}),
    ],
)
def test_no_published_checkpoint_fits_other_options(name, options):
    assert SPECS[name](**options).published() == ()


def test_dropout_is_no_matter_to_a_published_checkpoint():
    for name, options in (
        ("vgg16", {"dropout": 0.1}),
        ("convnext_tiny", {"stochastic_depth": 0.4}),
        ("vit", {"dropout": 0.1}),
    ):
        assert SPECS[name](**options).published() == SPECS[name]().published() != ()


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "vgg16", "convnext_tiny", "vit_b_16"])
def test_both_twins_equal_torchvisions_network_at_the_published_size(name):
    spec = PUBLISHED[name]
    weights = random_weights(spec, IMAGENET)
    x = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    scaling = Normalisation(np.full(3, 120, np.float32), np.full(3, 1 / 60, np.float32))
    with torch.device("meta"):
        network = theirs(name)()
    network.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, assign=True)
    with torch.inference_mode():
        normalised = torch.from_numpy((x.astype(np.float32) - 120) / 60).permute(0, 3, 1, 2)
        expected = network.eval()(normalised).numpy()
    del network
    assert 0.1 < expected.std() < 100
    for framework in ("torch", "jax"):
        predictor = engine.load(framework).predictor(
            Definition(spec, IMAGENET, scaling), weights, device="cpu"
        )
        found = predictor.logits(x)
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max()), framework
        del predictor


def in_torch(spec, signature, weights, x, pull):
    network = implementation(spec, "torch").build(spec, signature).double()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
    network.train()
    logits = network(torch.from_numpy(x).permute(0, 3, 1, 2))
    (logits * torch.from_numpy(pull)).sum().backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in network.named_parameters()}
    statistics = {name: buffer.numpy() for name, buffer in network.named_buffers()}
    return logits.detach().numpy(), gradients, statistics


def in_jax(spec, signature, weights, x, pull):
    with jax.enable_x64(True):
        network = Network(spec, signature, "float64")
        tensors = network.to_device(weights, jax.devices("cpu")[0])
        statistics = {name: tensors.pop(name) for name in network.statistics}

        def pulled(parameters):
            logits, after = network.apply(parameters | statistics, jnp.asarray(x), training=True)
            return (logits * pull).sum(), (logits, after)

        gradients, (logits, after) = jax.jit(jax.grad(pulled, has_aux=True))(tensors)
        return np.asarray(logits), network.to_canonical(gradients), network.to_canonical(after)


@pytest.mark.parametrize("name", SMALL)
def test_logits_gradients_and_statistics_of_the_twins_agree_for_any_weights(name):
    spec, signature = SMALL[name]
    options = {key: 0.0 for key in ("dropout", "stochastic_depth") if key in type(spec).model_fields}
    spec = spec.model_copy(update=options)
    weights = random_weights(spec, signature, np.float64)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(4, *signature.input.shape))
    pull = generator.normal(size=(4, signature.outputs))
    expected, their_gradients, their_statistics = in_torch(spec, signature, weights, x, pull)
    logits, gradients, statistics = in_jax(spec, signature, weights, x, pull)
    assert np.abs(logits - expected).max() <= 1e-9 * np.abs(expected).max()
    assert statistics.keys() == their_statistics.keys()
    for key, statistic in their_statistics.items():
        np.testing.assert_allclose(statistics[key], statistic, rtol=1e-9, atol=1e-9, err_msg=key)
    assert gradients.keys() == their_gradients.keys()
    for key, gradient in their_gradients.items():
        largest = np.abs(gradient).max()
        assert largest > 1e-6, key
        assert np.abs(gradients[key] - gradient).max() <= 1e-9 * max(1, largest), key


@pytest.mark.parametrize("name", SMALL)
def test_dropout_stands_at_the_same_places_in_both_twins(name):
    spec, signature = SMALL[name]
    if "dropout" in type(spec).model_fields:
        spec = spec.model_copy(update={"dropout": 0.3})
    with torch.device("meta"):
        network = implementation(spec, "torch").build(spec, signature)
    expected = {
        path: module.p
        for path, module in network.named_modules()
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth)
    }
    twin = nnx.eval_shape(lambda: implementation(spec, "jax").build(spec, signature, jnp.float32))
    found = {
        ".".join(map(str, path)): module.rate
        for path, module in nnx.iter_modules(twin)
        if isinstance(module, Dropout | StochasticDepth)
    }
    assert found == pytest.approx(expected)
    assert bool(found) == (not name.startswith("resnet"))


STARTS = {
    "resnet50": (SPECS["resnet50"](), lambda: torchvision.models.resnet50()),
    "vgg11": (SPECS["vgg11"](), lambda: torchvision.models.vgg11()),
    "convnext_tiny": (
        SPECS["convnext_tiny"](depths=(1, 1, 1, 1)),
        lambda: implementation(SPECS["convnext_tiny"](), "torch").build(
            SPECS["convnext_tiny"](depths=(1, 1, 1, 1)), IMAGENET
        ),
    ),
    "vit": (
        SPECS["vit"](layers=1, mlp=1024),
        lambda: torchvision.models.VisionTransformer(224, 16, 1, 12, 768, 1024),
    ),
    "vit-small-patches": (
        SPECS["vit"](layers=1, hidden=256, heads=4, mlp=64, patch_size=1),
        lambda: torchvision.models.VisionTransformer(8, 1, 1, 4, 256, 64),
    ),
}


def distance(some, others):
    """Kolmogorov and Smirnov's, in units of what two samples of these sizes from one distribution would have."""
    both = np.concatenate((some, others))
    below = [np.searchsorted(np.sort(values), both, side="right") / values.size for values in (some, others)]
    return np.abs(below[0] - below[1]).max() / np.sqrt(1 / some.size + 1 / others.size)


@pytest.mark.parametrize("name", STARTS)
def test_weights_start_in_the_same_distribution_as_torchvisions(name):
    spec, build = STARTS[name]
    signature = images(8, classes=1000) if name == "vit-small-patches" else IMAGENET
    torch.manual_seed(0)
    network = build()
    for key, tensor in declarations(spec, signature).items():
        their_values = network.state_dict()[key].double().numpy().reshape(-1)[:50_000]
        generator = np.random.default_rng(len(key))
        values = np.asarray(tensor.draw(generator, (min(tensor.size, 50_000),))).reshape(-1)
        if np.ptp(their_values) == 0:
            assert np.allclose(values, their_values[0], rtol=1e-6), key
        else:
            assert distance(values, their_values) < 2.5, key


def test_a_truncated_draw_redraws_what_lies_beyond_its_bound():
    values = truncated_normal(2.0)(np.random.default_rng(0), (20_000,))
    assert np.abs(values).max() <= 2
    # Of N(0, 1) between -1 and 1: the variance is 0.2911.
    assert values.std() == pytest.approx(2 * np.sqrt(0.2911), rel=0.02)


@pytest.mark.parametrize(
    ("name", "options", "signature", "message", "pointer"),
    [
        ("resnet50", {}, images(7), "at least 8x8", "/model/architecture"),
        (
            "vgg16",
            {},
            images(31),
            r"from 32x32 pixels.*'preprocess.size' to \[32, 32\]",
            "/model/architecture",
        ),
        ("convnext_tiny", {}, images(64, width=28), "64x28", "/model/architecture"),
        ("vit", {}, images(28), "patch_size of 4,", "/model/patch_size"),
        ("vit", {"patch_size": 15}, images(224), "patch_size of 14,", "/model/patch_size"),
        ("vit", {}, images(8), "patch_size of 1,", "/model/patch_size"),
        ("vit", {}, images(32, width=48), r"square.*\[32, 32\]", "/model/architecture"),
        ("vit", {"heads": 5, "patch_size": 4}, images(32), "use 4 heads, or 765", "/model/heads"),
        ("vit", {"heads": 64, "hidden": 9}, images(32), "use 9 heads, or 64", "/model/heads"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(name, options, signature, message, pointer):
    with pytest.raises(InvalidInput, match=message) as caught:
        SPECS[name](**options).check(signature)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("side", [28, 32, 48, 64, 96, 224, 29])
def test_the_patch_size_that_is_suggested_fits(side):
    with pytest.raises(InvalidInput) as caught:
        SPECS["vit"](patch_size=17).check(images(side))
    suggested = int(str(caught.value).partition("patch_size of ")[2].partition(",")[0])
    SPECS["vit"](patch_size=suggested).check(images(side))
