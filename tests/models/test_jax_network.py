"""The parts of the JAX engine against NumPy: layouts, layers, optimizer terms, augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.catalog import architectures, declarations
from models.frameworks.jax.images import augmented
from models.frameworks.jax.layers import BatchNorm
from models.frameworks.jax.network import Network
from models.frameworks.jax.objectives import objective
from models.frameworks.jax.optimizers import _one_minus_power, clip_by_norm
from models.frameworks.jax.pooling import max_pool
from models.plan import crop_padding
from models.signature import ImageInput, Signature, TableInput

TAKEN = {
    "grey": ImageInput(height=16, width=24, channels=1),
    "colour": ImageInput(height=17, width=16, channels=3),
    "table": TableInput(features=7, columns=tuple("abcdefg")),
}


OPTIONS = {
    "vgg11": {"width": 4, "hidden": 16},
    "vgg16": {"width": 4, "hidden": 16},
    "convnext_tiny": {"depths": (1, 1, 2, 1), "widths": (8, 6, 12, 10)},
    "vit": {"patch_size": 8, "layers": 2, "heads": 2, "hidden": 16, "mlp": 20},
}
"""Of architectures whose defaults are large."""


def variants():
    """Every architecture of the catalog over every kind of input that it takes, with each stem."""
    for name, spec in architectures().items():
        options = [{"stem": "cifar"}, {"stem": "imagenet"}] if "stem" in spec.model_fields else [{}]
        for kind, taken in TAKEN.items():
            task = "tabular-classification" if kind == "table" else "image-classification"
            if task in spec.tasks:
                signature = Signature(task=task, input=taken, outputs=5)
                for given in options:
                    label = "-".join([name, kind, *given.values()])
                    yield pytest.param(spec(**OPTIONS.get(name, {}), **given), signature, id=label)


def drawn(declared, seed=0):
    """Random numbers of the declared shapes and types."""
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray(generator.normal(size=tensor.shape) * 100).astype(tensor.dtype)
        for name, tensor in declared.items()
    }


@pytest.mark.parametrize(("spec", "signature"), list(variants()))
def test_a_network_has_the_canonical_tensors_and_they_come_back_bit_for_bit(spec, signature):
    network = Network(spec, signature, "float32")
    declared = declarations(spec, signature)
    assert network.places.keys() == declared.keys()
    given = drawn(declared)
    there = network.to_device(given, jax.devices("cpu")[0])
    back = network.to_canonical(there)
    assert list(back) == list(declared)
    for name, array in given.items():
        assert there[name].shape == network.variables[network.places[name].path].shape
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


def test_what_comes_back_is_a_copy():
    network = Network(
        architectures()["linear"](),
        Signature(task="tabular-regression", input=TAKEN["table"], outputs=1),
        "float32",
    )
    given = drawn(network.declared)
    there = network.to_device(given, jax.devices("cpu")[0])
    kept = given["linear.weight"].copy()
    given["linear.weight"][:] = 0
    network.to_canonical(there)["linear.weight"][:] = 1
    np.testing.assert_array_equal(network.to_canonical(there)["linear.weight"], kept)


def test_every_variable_of_every_network_is_a_canonical_tensor_or_a_key_of_dropout():
    for spec, signature in (parameter.values for parameter in variants()):
        network = Network(spec, signature, "float32")
        assert len(network.variables) == len(network.places) + len(network.sites)


def reference_batch_norm(x, weight, bias, epsilon=1e-5):
    x = x.astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias, mean, x.var((0, 1, 2), ddof=1)


def test_batch_norm_keeps_the_unbiased_variance_as_torch_does():
    x = np.random.default_rng(0).normal(3, 2, (4, 3, 3, 5)).astype(np.float32)
    layer = BatchNorm(5, jnp.float32)
    layer.weight[...], layer.bias[...] = jnp.arange(1.0, 6), jnp.arange(5.0)
    result = layer(jnp.asarray(x), training=True)
    expected, mean, variance = reference_batch_norm(x, np.arange(1.0, 6), np.arange(5.0))
    np.testing.assert_allclose(result, expected, atol=2e-5)
    np.testing.assert_allclose(layer.running_mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var[...], 0.9 + 0.1 * variance, rtol=1e-5)
    assert int(layer.num_batches_tracked[...]) == 1


def test_one_pass_variance_survives_a_mean_far_from_zero_once_it_is_known():
    """Without the shift by the running mean, E[x^2] - E[x]^2 of these is off by more than the variance."""
    x = np.random.default_rng(0).normal(3000, 0.5, (8, 4, 4, 3)).astype(np.float32)
    layer = BatchNorm(3, jnp.float32)
    layer.running_mean[...] = jnp.full(3, 2999.0)
    expected, _, _ = reference_batch_norm(x, 1, 0)
    np.testing.assert_allclose(layer(jnp.asarray(x), training=True), expected, atol=2e-3)


def test_batch_norm_in_evaluation_uses_the_running_statistics_and_leaves_them():
    layer = BatchNorm(2, jnp.float32)
    layer.running_mean[...], layer.running_var[...] = jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0])
    result = layer(jnp.array([[3.0, 5.0]]), training=False)
    np.testing.assert_allclose(result, [[1.0, 1.0]], rtol=1e-5)
    np.testing.assert_array_equal(layer.running_mean[...], [1.0, 2.0])
    assert int(layer.num_batches_tracked[...]) == 0


@pytest.mark.parametrize(("window", "stride", "margin"), [(2, 2, 0), (3, 2, 1)])
def test_the_first_of_equal_pixels_takes_the_gradient(window, stride, margin):
    x = np.random.default_rng(0).integers(0, 3, (2, 7, 6, 2)).astype(np.float32)
    edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = np.pad(x, edges, constant_values=-np.inf)
    gradient = np.zeros_like(padded)
    rows, columns = ((size - window) // stride + 1 for size in padded.shape[1:3])
    expected = np.zeros((2, rows, columns, 2), np.float32)
    for b, i, j, c in np.ndindex(expected.shape):
        top, left = i * stride, j * stride
        pixels = padded[b, top : top + window, left : left + window, c]
        expected[b, i, j, c] = pixels.max()
        down, across = np.unravel_index(pixels.argmax(), pixels.shape)
        gradient[b, top + down, left + across, c] += 1
    pooled, pull = jax.vjp(lambda x: max_pool(x, window, stride, margin), jnp.asarray(x))
    np.testing.assert_array_equal(pooled, expected)
    height, width = x.shape[1:3]
    inner = gradient[:, margin : margin + height, margin : margin + width]
    np.testing.assert_array_equal(pull(jnp.ones_like(pooled))[0], inner)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("flip", "crop"), [(True, True), (True, False), (False, True), (False, False)])
def test_augmentation_equals_slow_numpy_to_the_bit(flip, crop, channels):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (9, 17, 12, channels), dtype=np.uint8)
    margin = crop_padding(17)
    flips = generator.random(9) < 0.5 if flip else None
    offsets = generator.integers(0, 2 * margin + 1, (9, 2), dtype=np.int32) if crop else None
    expected = x.copy()
    for index, image in enumerate(x):
        if crop:
            top, left = offsets[index]
            padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
            image = padded[top : top + 17, left : left + 12]
        expected[index] = image[:, ::-1] if flip and flips[index] else image
    result = jax.jit(augmented)(x, flips, offsets)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_adam_bias_correction_keeps_its_digits_in_float32():
    steps = np.array([1, 2, 10, 1000, 100_000])
    for beta in (0.9, 0.999, 0.99999):
        exact = 1 - np.float64(beta) ** steps
        np.testing.assert_allclose(_one_minus_power(beta, jnp.asarray(steps, jnp.float32)), exact, rtol=3e-7)
    assert float(_one_minus_power(0.0, jnp.float32(3))) == 1


def test_clipping_scales_all_gradients_by_their_common_norm_or_leaves_them():
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    clipped = clip_by_norm(gradients, 1.0)
    np.testing.assert_allclose(clipped["a"], [3 / (5 + 1e-6), 0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [[4 / (5 + 1e-6)]], rtol=1e-6)
    np.testing.assert_array_equal(clip_by_norm(gradients, 6.0)["a"], gradients["a"])


def test_the_objective_of_a_table_regression_is_the_mean_squared_error():
    signature = Signature(task="tabular-regression", input=TAKEN["table"], outputs=1)
    loss, score = objective(signature, 0.0)(jnp.array([[1.0], [2.0]]), jnp.array([3.0, 1.0]))
    assert (float(loss), float(score)) == (2.5, 3.0)


def test_label_smoothing_spreads_a_share_of_the_target_evenly():
    signature = Signature(task="image-classification", input=TAKEN["grey"], outputs=3)
    logits = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.array([[1, 0, 0], [0, 1, 0]]) * 0.7 + 0.1
    loss, score = objective(signature, 0.3)(jnp.asarray(logits), jnp.array([0, 1]))
    assert float(loss) == pytest.approx(-(target * logs).sum(1).mean(), rel=1e-5)
    assert float(score) == 1


def test_building_a_network_draws_nothing():
    signature = Signature(task="image-classification", input=TAKEN["colour"], outputs=5)
    network = Network(architectures()["resnet18"](), signature, "float32")
    kept = [variable.get_value() for variable in network.variables.values()]
    assert {type(array) for array in kept} == {jax.ShapeDtypeStruct}


def test_batch_norm_of_a_constant_channel_stays_finite():
    norm = BatchNorm(4, jnp.float32)
    x = jnp.broadcast_to(jnp.array([5.1, 20.3, 50.7, 200.9], jnp.float32), (64, 8, 8, 4))
    found = norm(x, training=True)
    assert np.isfinite(found).all()
    assert (np.asarray(norm.running_var[...]) >= 0.9 * (1 - 1e-6)).all()
