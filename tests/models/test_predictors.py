"""What every engine's predictor promises."""

import numpy as np
import pytest

from models import engine
from models.catalog import architectures
from models.engine import Definition, is_normalised
from models.framework import FRAMEWORKS
from models.initial import initial_weights
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput

IMAGES = Signature(task="image-classification", input=ImageInput(height=12, width=9, channels=3), outputs=7)
NORMALISATION = Normalisation(np.array([100, 120, 90], np.float32), np.array([0.02, 0.03, 0.01], np.float32))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_images_may_come_normalised_as_the_network_takes_them(framework, rows):
    spec = architectures()["cnn"](width=4, stages=1)
    weights = initial_weights(spec, IMAGES, 0)
    predictor = engine.load(framework).predictor(Definition(spec, IMAGES, NORMALISATION), weights)
    raw = np.random.default_rng(0).integers(0, 256, (rows, 12, 9, 3), dtype=np.uint8)
    normal = ((raw - NORMALISATION.mean) * NORMALISATION.inverse_std).astype(np.float32)
    found = predictor.logits(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(found, predictor.logits(raw), atol=1e-5)
    assert found.std() > 1e-3


def test_only_images_that_are_no_whole_numbers_are_normalised():
    table = TableInput(features=2, columns=("a", "b"))
    assert is_normalised(np.zeros((1, 3, 12, 9), np.float32), IMAGES.input)
    assert not is_normalised(np.zeros((1, 12, 9, 3), np.uint8), IMAGES.input)
    assert not is_normalised(np.zeros((1, 2), np.float32), table)
