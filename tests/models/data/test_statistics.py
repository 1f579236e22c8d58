"""Means and deviations, against the plain formula in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.data.statistics import column_statistics, image_preprocessing, table_preprocessing


@pytest.mark.parametrize("channels", [1, 3])
def test_image_statistics_are_those_of_pixels_scaled_to_one(channels):
    x = np.random.default_rng(0).integers(0, 256, (5000, 28, 28, channels), dtype=np.uint8)  # several chunks
    found = image_preprocessing(x)
    scaled = x / 255
    assert np.allclose(found.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    assert np.allclose(found.std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)
    assert (found.height, found.width, found.channels) == (28, 28, channels)


def test_a_constant_channel_has_a_deviation_of_one():
    x = np.zeros((10, 4, 4, 3), np.uint8)
    x[..., 1] = 77
    x[0, 0, 0, 2] = 1
    found = image_preprocessing(x)
    assert found.std[:2] == (1, 1)
    assert 0 < found.std[2] < 1
    assert np.isclose(found.mean[1], 77 / 255, rtol=1e-14)


def test_column_statistics_are_right_over_many_chunks():
    x = np.random.default_rng(0).normal([5, -1000, 0], [1, 30, 1e-6], (3_000_000, 3)).astype(np.float32)
    mean, std = column_statistics(x)
    assert np.allclose(mean, x.mean(axis=0, dtype=np.float64), rtol=1e-9, atol=1e-12)
    assert np.allclose(std, x.std(axis=0, dtype=np.float64), rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1e30, -7.3, 0.0])
def test_a_constant_column_has_a_deviation_of_one(value):
    x = np.full((999, 1), value, np.float32)
    assert column_statistics(x)[1].tolist() == [1.0]


def test_values_far_from_zero_keep_their_small_deviation():
    x = np.array([[16_000_000], [16_000_001], [16_000_002]], np.float32)
    mean, std = column_statistics(x)
    assert mean[0] == 16_000_001
    assert np.isclose(std[0], np.sqrt(2 / 3), rtol=1e-12)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 4)),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_any_finite_table_gives_a_finite_normalisation(x):
    found = table_preprocessing(x, tuple(f"c{number}" for number in range(x.shape[1])), None, x[:, 0])
    normalisation = found.normalisation
    assert np.isfinite(normalisation.mean).all()
    assert np.isfinite(normalisation.inverse_std).all()
    assert np.isclose(found.target_mean, found.mean[0], rtol=1e-12)
    assert np.isclose(found.target_std, found.std[0], rtol=1e-12)


def test_only_regression_keeps_statistics_of_the_target():
    found = table_preprocessing(np.ones((3, 1), np.float32), ("a",), None, None)
    assert found.target_mean is found.target_std is None
