"""Winograd's convolutions compute what convolutions do, and are taken where they pay."""

import jax.numpy as jnp
import numpy as np
import pytest

from models import engine
from models.catalog import architectures
from models.engine import Definition
from models.frameworks.jax import winograd
from models.frameworks.jax.convolutions import Convolution
from models.frameworks.jax.network import Network
from models.frameworks.jax.serving import JaxPredictor
from models.initial import initial_weights
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature
from models.winograd import SMALLEST, TRANSFORMS, best_tile, transformed, transformed_bytes


def convolved(x_BHWI, kernel_HWIO):
    """As it is defined, in float64."""
    _, height, width, _ = x_BHWI.shape
    padded = np.pad(x_BHWI.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, top : top + height, left : left + width] @ kernel_HWIO[top, left].astype(np.float64)
        for top in range(3)
        for left in range(3)
    )


def layer(batch, height, width, inputs, outputs, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((batch, height, width, inputs), np.float32)
    return x, generator.standard_normal((3, 3, inputs, outputs), np.float32)


@pytest.mark.parametrize("tile", TRANSFORMS)
def test_transforms_give_one_dimensional_correlations(tile):
    """The paper's F(m, 3): AT @ ((G @ g) * (BT @ d))."""
    _, BT, G, AT = TRANSFORMS[tile]
    d, g = np.arange(1.0, len(BT) + 1) ** 2, np.array([2.0, -3.0, 0.5])
    np.testing.assert_allclose(AT @ ((G @ g) * (BT @ d)), np.correlate(d, g), rtol=1e-12)


@pytest.mark.parametrize("tile", TRANSFORMS)
@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 3, 3), (3, 8, 8), (2, 7, 13), (5, 1, 6), (4, 16, 4)]
)
def test_it_computes_the_convolution(tile, batch, height, width):
    x, kernel = layer(batch, height, width, 5, 6)
    found = winograd.convolve(jnp.asarray(x), jnp.asarray(transformed(kernel, tile)), tile)
    np.testing.assert_allclose(found, convolved(x, kernel), atol=2e-4)


@pytest.mark.parametrize("batch", [1, 2, 6, 8, 11])
def test_a_batch_in_pieces_is_the_same(batch, monkeypatch):
    x, kernel = layer(batch, 9, 8, 4, 4)
    arguments = jnp.asarray(x), jnp.asarray(transformed(kernel, 4)), 4
    whole = winograd.convolve(*arguments)
    monkeypatch.setattr(winograd, "AT_A_TIME_BYTES", 2 * transformed_bytes(4, 4, 9, 8, 4))
    np.testing.assert_allclose(winograd.convolve(*arguments), whole, atol=1e-5)
    np.testing.assert_allclose(whole, convolved(x, kernel), atol=1e-4)


def test_a_kernel_is_transformed_row_by_row():
    kernel = layer(1, 1, 1, 3, 2)[1]
    G = TRANSFORMS[2].G
    found = transformed(kernel, 2)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((16, 3, 2), np.float32, True)
    np.testing.assert_allclose(found[:, 2, 1].reshape(4, 4), G @ kernel[:, :, 2, 1] @ G.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "tile"),
    [
        (64, 64, 32, 4),
        (128, 128, 16, 4),
        (256, 256, 8, 4),
        (512, 512, 4, 2),  # one tile of 4x4 an image: the larger kernel would not pay
        (512, 512, 28, 4),
        (3, 64, 32, None),  # the transforms would cost more than they save
        (64, 64, 224, None),  # would leave the cache
        (512, 512, SMALLEST - 1, None),
    ],
)
def test_the_tile_that_is_taken(inputs, outputs, side, tile):
    assert best_tile(inputs, outputs, side, side) == tile


# --- in networks ----------------------------------------------------------------------------------------------------


def definition(name, side, **options):
    spec = architectures()[name](**options)
    signature = Signature(
        task="image-classification", input=ImageInput(height=side, width=side, channels=3), outputs=5
    )
    return Definition(
        spec, signature, Normalisation(np.full(3, 120, np.float32), np.full(3, 0.02, np.float32))
    )


def tiles(network):
    return [place.layer.tile for place in network.places.values() if isinstance(place.layer, Convolution)]


@pytest.mark.parametrize(
    "about",
    [
        definition("resnet18", 32, stem="cifar"),
        definition("vgg11", 64),
        definition("cnn", 28, width=32),
    ],
    ids=lambda about: about.spec.name,
)
def test_predictions_are_those_of_the_other_framework(about):
    weights = initial_weights(about.spec, about.signature, 0)
    predictors = [engine.load(framework).predictor(about, weights) for framework in ("jax", "torch")]
    assert any(tiles(predictors[0]._forward.network))
    x = np.random.default_rng(0).integers(0, 256, (3, *about.signature.input.shape), dtype=np.uint8)
    found, expected = (one.logits(x) for one in predictors)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_network_with_large_maps_computes_small_batches():
    about = definition("resnet18", 32, stem="cifar")
    subject = engine.load("jax").predictor(about, initial_weights(about.spec, about.signature, 0))
    assert subject._forward.network.map_bytes == 4 * 32 * 32 * 64
    subject.logits(np.zeros((11, *about.signature.input.shape), np.uint8))
    assert sorted(rows for rows, *_ in subject._forward._compiled) == [4, 8]


def test_networks_that_learn_or_compute_in_less_precision_do_without():
    about = definition("resnet18", 32, stem="cifar")
    weights = initial_weights(about.spec, about.signature, 0)
    assert not any(tiles(Network(about.spec, about.signature, "float32")))
    reduced = engine.load("jax").predictor(about, weights, precision="bfloat16")
    assert isinstance(reduced, JaxPredictor)
    assert not any(tiles(reduced._forward.network))
