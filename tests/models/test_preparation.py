"""Images and tables as one job's network takes them."""

import json

import numpy as np
import pytest

from models.columns import CategoricalColumn, NumericColumn
from models.data.assembly import assemble
from models.data.dataset import Split
from models.errors import InvalidInput
from models.job import JobSpec
from models.preparation import expected_signature, prepared
from models.preparation import image as images
from models.preprocessing import ImagePreprocessing
from models.preprocessing.decoding import resize
from models.signature import ImageInput


def job(**preprocess):
    body = {"framework": "jax", "dataset": "x", "model": {"architecture": "cnn"}, "training": {"epochs": 1}}
    return JobSpec.model_validate_json(json.dumps({**body, "preprocess": preprocess}))


@pytest.fixture
def pictures():
    x = np.random.default_rng(0).integers(0, 256, (40, 10, 20, 3), dtype=np.uint8)
    return assemble("image-classification", Split(x, np.arange(40) % 2), classes=["a", "b"])


def test_without_options_nothing_changes(pictures, tmp_path):
    found = prepared(pictures, job(), None, tmp_path)
    assert found.train.array is pictures.train.array
    assert found.preprocessing == pictures.preprocessing
    assert found.description == pictures.description


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_images_get_the_size_that_is_asked_for(pictures, tmp_path, monkeypatch, policy, on_disk):
    if on_disk:
        monkeypatch.setattr(images, "LARGE_BYTES", 10)
    wanted = job(size=[8, 12], resize=policy)
    found = prepared(pictures, wanted, None, tmp_path)
    assert found.description.input == ImageInput(height=8, width=12, channels=3)
    assert expected_signature(pictures.description, wanted) == found.description.signature
    from PIL import Image

    for name in ("train", "validation", "test"):
        before, after = getattr(pictures, name), getattr(found, name)
        expected = [resize(Image.fromarray(image), 8, 12, policy) for image in before.array]
        np.testing.assert_array_equal(after.array, np.stack(expected))
        np.testing.assert_array_equal(after.y, before.y)
    assert found.preprocessing.resize == policy
    np.testing.assert_array_equal(
        found.preprocessing.batch([pictures.train.array[0]])[0], found.train.array[0]
    )
    mean = found.train.array.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(found.preprocessing.mean, mean, atol=1e-6)


def test_the_given_normalisation_comes_first_then_that_of_the_weights(pictures, tmp_path):
    known = ImagePreprocessing(height=224, width=224, channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    taken = prepared(pictures, job(size=[6, 6]), known, tmp_path).preprocessing
    assert (taken.mean, taken.std, taken.height) == (known.mean, known.std, 6)
    given = prepared(pictures, job(mean=[0.5] * 3, std=[0.25] * 3), known, tmp_path).preprocessing
    assert given.mean == (0.5, 0.5, 0.5)


def test_a_mean_needs_a_number_for_each_channel(pictures, tmp_path):
    wrong = job(mean=[0.5], std=[0.25])
    with pytest.raises(InvalidInput, match="3 channel") as caught:
        expected_signature(pictures.description, wrong)
    assert caught.value.pointer == "/preprocess/mean"


def mixed():
    x = np.stack([np.arange(60.0), np.arange(60) % 3], axis=1).astype(np.float32)
    x[::7, 0] = np.nan
    fields = [NumericColumn(name="a"), CategoricalColumn(name="b", categories=("x", "y", "z"))]
    return assemble("tabular-classification", Split(x, np.arange(60) % 2), classes=["n", "y"], fields=fields)


def test_columns_become_features(tmp_path, monkeypatch):
    dataset = mixed()
    found = prepared(dataset, job(), None, tmp_path)
    assert found.train.array.shape == (len(dataset.train), 5)
    assert found.description.input.features == 5
    np.testing.assert_array_equal(found.train.array[:, 1], np.isnan(dataset.train.array[:, 0]))
    assert (found.train.array[:, 2:].sum(1) == 1).all()
    from models.preparation import table

    monkeypatch.setattr(table, "LARGE_BYTES", 10)
    np.testing.assert_array_equal(prepared(dataset, job(), None, tmp_path).train.array, found.train.array)


def test_tables_have_no_image_size():
    with pytest.raises(InvalidInput, match="rows of a table"):
        expected_signature(mixed().description, job(size=[3, 3]))
