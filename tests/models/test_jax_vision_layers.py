"""The JAX layers of the vision networks against torch's, over odd sizes: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.frameworks.jax.attention import MultiHeadAttention, attention_weights
from models.frameworks.jax.convolutions import (
    Convolution,
    DepthwiseConvolution,
    PatchConvolution,
    depthwise,
    grouped,
)
from models.frameworks.jax.layers import LayerNorm
from models.frameworks.jax.pooling import PooledLinear, adaptive_average_pool


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def compared(of_jax, of_torch, *arrays):
    """Result and gradients of both, in float64, for the same arguments."""
    with jax.enable_x64(True):
        result, pull = jax.vjp(jax.jit(of_jax), *map(jnp.asarray, arrays))
        weights = random(*result.shape, seed=9)
        gradients = pull(jnp.asarray(weights))
        result, gradients = np.asarray(result), [np.asarray(gradient) for gradient in gradients]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = of_torch(*tensors)
    expected.backward(torch.from_numpy(weights))
    np.testing.assert_allclose(result, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-10)


def with_parameters(layer, **parameters):
    """The layer, made within the function that is differentiated, with these values."""
    for name, value in parameters.items():
        getattr(layer, name)[...] = value
    return layer


def channels_first(of_torch):
    """A function of [B, C, H, W], given and giving [B, H, W, C]."""
    return lambda x, *rest: of_torch(x.permute(0, 3, 1, 2), *rest).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (6, 7), (8, 13), (14, 14), (21, 10)])
def test_adaptive_average_pooling_is_torchs(height, width):
    compared(
        lambda x: adaptive_average_pool(x, 7, 7),
        channels_first(lambda x: F.adaptive_avg_pool2d(x, 7)),
        random(2, height, width, 3),
    )


def test_pooling_to_the_same_size_changes_no_bit():
    x = jnp.asarray(random(1, 7, 7, 2), jnp.float32)
    assert adaptive_average_pool(x, 7, 7) is x


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (4, 5)])
def test_a_linear_layer_over_a_pooled_map_is_torchs(height, width):
    def of_torch(x, weight, bias):
        pooled = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), (2, 3)).permute(0, 2, 3, 1)
        return pooled.reshape(2, -1) @ weight + bias

    compared(
        lambda x, weight, bias: with_parameters(
            PooledLinear((2, 3, 4), 5, jnp.float64), kernel=weight, bias=bias
        )(x),
        of_torch,
        random(2, height, width, 4),
        random(24, 5, seed=1),
        random(5, seed=2),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "height", "width"),
    [(1, 2, 1), (3, 1, 1), (3, 2, 5), (3, 4, 3), (3, 5, 6), (7, 5, 4)],
)
def test_convolutions_are_torchs_however_small_the_map(kernel, height, width, stride):
    compared(
        lambda x, weight, bias: with_parameters(
            Convolution(3, 4, kernel, jnp.float64, stride=stride, bias=True), kernel=weight, bias=bias
        )(x),
        channels_first(
            lambda x, weight, bias: F.conv2d(
                x, weight.permute(3, 2, 0, 1), bias, stride=stride, padding=kernel // 2
            )
        ),
        random(2, height, width, 3),
        random(kernel, kernel, 3, 4, seed=1),
        random(4, seed=2),
    )


@pytest.mark.parametrize(("height", "width"), [(1, 2), (8, 8), (9, 17), (3, 26)])
def test_depthwise_convolutions_are_torchs(height, width):
    compared(
        lambda x, weight, bias: with_parameters(
            DepthwiseConvolution(3, 7, jnp.float64), kernel=weight, bias=bias
        )(x),
        channels_first(
            lambda x, weight, bias: F.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=3, groups=3)
        ),
        random(2, height, width, 3),
        random(7, 7, 1, 3, seed=1),
        random(3, seed=2),
    )


def test_the_operation_that_a_gpu_takes_for_a_depthwise_convolution_is_the_same():
    x, kernel = jnp.asarray(random(2, 9, 6, 3)), jnp.asarray(random(7, 7, 3, seed=1))
    np.testing.assert_allclose(grouped(x, kernel), depthwise(x, kernel), atol=1e-4)


def test_a_depthwise_convolution_in_bfloat16_sums_in_float32():
    exact, coarse = (DepthwiseConvolution(3, 7, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    x = jnp.asarray(random(1, 8, 8, 3), jnp.bfloat16)
    for layer in (exact, coarse):
        with_parameters(layer, kernel=jnp.asarray(random(7, 7, 1, 3), jnp.float32))
    assert coarse(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(coarse(x), exact(x).astype(jnp.bfloat16))


@pytest.mark.parametrize(("size", "height", "width"), [(4, 8, 12), (2, 5, 7), (1, 2, 3)])
def test_patch_convolutions_are_torchs_and_drop_what_is_left_over(size, height, width):
    compared(
        lambda x, weight, bias: with_parameters(
            PatchConvolution(3, 4, size, jnp.float64), kernel=weight, bias=bias
        )(x),
        channels_first(lambda x, weight, bias: F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride=size)),
        random(2, height, width, 3),
        random(size, size, 3, 4, seed=1),
        random(4, seed=2),
    )


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_layer_norm_is_torchs(epsilon):
    compared(
        lambda x, weight, bias: with_parameters(
            LayerNorm(5, jnp.float64, epsilon=epsilon), weight=weight, bias=bias
        )(x),
        lambda x, weight, bias: F.layer_norm(x, (5,), weight, bias, epsilon),
        3 + random(2, 4, 5),
        random(5, seed=1),
        random(5, seed=2),
    )


def test_layer_norm_keeps_its_digits_far_from_zero():
    x = (1e4 + random(3, 64)).astype(np.float32)
    exact = F.layer_norm(torch.from_numpy(x.astype(np.float64)), (64,)).numpy()
    np.testing.assert_allclose(LayerNorm(64, jnp.float32)(jnp.asarray(x)), exact, atol=5e-3)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_torchs(heads):
    theirs = torch.nn.MultiheadAttention(12, heads, batch_first=True, dtype=torch.float64)
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")

    def of_jax(x, weight, bias, out_weight, out_bias):
        layer = MultiHeadAttention(12, heads, jnp.float64)
        with_parameters(layer, in_proj_weight=weight, in_proj_bias=bias)
        with_parameters(layer.out_proj, kernel=out_weight.T, bias=out_bias)
        return layer(x)

    def of_torch(x, *parameters):
        return torch.func.functional_call(theirs, dict(zip(names, parameters, strict=True)), (x, x, x))[0]

    shapes = ((2, 5, 12), (36, 12), (36,), (12, 12), (12,))
    compared(of_jax, of_torch, *(random(*shape, seed=index) for index, shape in enumerate(shapes)))


def test_what_attention_may_not_take_weighs_nothing_and_the_rest_sums_to_one():
    q, k = (jnp.asarray(random(2, 3, 4, 5, seed=seed)) for seed in (0, 1))
    allowed = jnp.array([[True, True, False, False], [True, False, True, True]])
    weights = np.asarray(attention_weights(q, k, allowed))
    kept = np.broadcast_to(np.asarray(allowed)[:, None, None, :], weights.shape)
    assert (weights[~kept] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    alone = np.asarray(attention_weights(q[:1, :, :2], k[:1, :, :2]))
    np.testing.assert_allclose(weights[:1, :, :2, :2], alone, rtol=1e-5)
