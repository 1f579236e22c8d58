"""Dropout's random numbers: the same in NumPy, PyTorch and JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import StochasticDepth as TorchStochasticDepth

from models.frameworks.jax import noise as in_jax
from models.frameworks.torch.noise import Noise
from models.noise import kept, mixed, site_key, step_keys, threshold

SHAPE = (5, 7, 11)
keys = st.integers(-(2**31), 2**31 - 1)
rates = st.sampled_from([0.1, 0.25, 0.5, 0.9])


def torch_mask(key: int, name: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
    network = nn.ModuleDict({name: nn.Dropout(rate)}).train()
    Noise(network).at(key)
    return network[name](torch.ones(shape)).numpy()


def jax_mask(key: int, name: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
    layer = in_jax.Dropout(rate)
    layer.key[...] = in_jax.mixed(jnp.int32(key) ^ np.int32(site_key(name)))
    return np.asarray(layer(jnp.ones(shape), training=True))


@settings(deadline=None)
@given(keys, rates)
def test_torch_drops_what_the_reference_drops(key, rate):
    expected = kept(key, "somewhere", SHAPE, rate) / (1 - rate)
    np.testing.assert_allclose(torch_mask(key, "somewhere", SHAPE, rate), expected, rtol=1e-6)


@settings(deadline=None)
@given(keys, rates)
def test_jax_drops_what_the_reference_drops(key, rate):
    expected = kept(key, "somewhere", SHAPE, rate) / (1 - rate)
    np.testing.assert_allclose(jax_mask(key, "somewhere", SHAPE, rate), expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.8])
def test_the_share_that_is_dropped_is_the_rate(rate):
    share = 1 - kept(3, "a", (1000, 1000), rate).mean()
    assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 1e6) ** 0.5)


def test_masks_of_other_steps_and_places_are_unrelated():
    steps = [kept(int(key), "a", (100_000,), 0.5) for key in step_keys(0, 0, 4)]
    places = [kept(1, name, (100_000,), 0.5) for name in ("layers.0.dropout", "layers.1.dropout")]
    seeds = [kept(int(step_keys(seed, 0, 1)[0]), "a", (100_000,), 0.5) for seed in (0, 1, 2**32)]
    for masks in (steps, places, seeds):
        apart = np.corrcoef(np.array(masks, float)) - np.eye(len(masks))
        assert np.abs(apart).max() < 0.02


def test_neighbours_within_a_mask_are_unrelated():
    mask = kept(5, "a", (512, 768), 0.1).astype(float)
    for one, other in ((mask[:-1], mask[1:]), (mask[:, :-1], mask[:, 1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01
    assert mask.mean(1).std() == pytest.approx((0.09 / 768) ** 0.5, rel=0.2)


def test_a_step_has_its_key_wherever_the_run_was_cut():
    assert np.array_equal(step_keys(7, 0, 100)[40:60], step_keys(7, 40, 60))


def test_thresholds_reach_both_ends():
    assert threshold(0.0) == -(2**31)
    assert threshold(0.5) == 0


def test_hashes_are_the_same_in_jax():
    values = np.arange(-1000, 1000, dtype=np.int32) * np.int32(7919)
    assert np.array_equal(mixed(values), np.asarray(in_jax.mixed(jnp.asarray(values))))


def test_whole_samples_are_dropped_alike():
    x = np.random.default_rng(0).normal(size=(16, 3, 2, 2)).astype(np.float32)
    network = nn.ModuleDict({"depth": TorchStochasticDepth(0.4, "row")}).train()
    Noise(network).at(9)
    layer = in_jax.StochasticDepth(0.4)
    layer.key[...] = in_jax.mixed(jnp.int32(9) ^ np.int32(site_key("depth")))
    found = network["depth"](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, np.asarray(layer(jnp.asarray(x), training=True)), rtol=1e-6)
    dropped = (found == 0).all(axis=(1, 2, 3))
    assert np.array_equal(~dropped, kept(9, "depth", (16,), 0.4))
    assert 0 < dropped.sum() < 16


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_evaluation_drops_nothing(rate):
    x = torch.ones(SHAPE)
    network = nn.ModuleDict({"a": nn.Dropout(rate)})
    Noise(network)
    assert network.eval()["a"](x) is x
    assert rate or network.train()["a"](x) is x
    ones = jnp.ones(SHAPE)
    assert in_jax.Dropout(rate)(ones, training=False) is ones


def test_everything_may_be_dropped():
    assert not torch_mask(1, "a", SHAPE, 1.0).any()
    assert not jax_mask(1, "a", SHAPE, 1.0).any()


def test_gradients_flow_through_what_is_kept():
    network = nn.ModuleDict({"a": nn.Dropout(0.5)}).train()
    Noise(network).at(2)
    x = torch.ones(SHAPE, requires_grad=True)
    network["a"](x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), kept(2, "a", SHAPE, 0.5) * 2.0)


def test_modules_in_lists_and_deep_inside_are_replaced():
    network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ModuleDict({"inner": nn.Dropout(0.2)}))
    Noise(network)
    assert not any(isinstance(module, nn.Dropout) for module in network.modules())


def test_a_dropout_is_no_tensor_of_the_network():
    class Block(nnx.Module):
        def __init__(self):
            self.dropout = in_jax.Dropout(0.5)

    assert not nnx.state(Block(), nnx.Param)
    assert jax.tree.leaves(nnx.state(Block(), in_jax.NoiseKey))
