"""What a run starts from, as one object: weights fitted to its classes, and the preprocessing that they are used to."""

import numpy as np
import pytest

from models import tensor_files
from models.catalog import architectures
from models.checkpoints.origin import Origin, of_model, of_published, of_state
from models.checkpoints.published import Fetched
from models.errors import InvalidInput
from models.initial import initial_weights
from models.preprocessing import ImagePreprocessing
from models.published import IMAGENET_MEAN, IMAGENET_STD, imagenet
from models.signature import ImageInput, Signature
from models.state import TrainingState
from models.weights import ModelCard, WeightsFile, check_weights

SPEC = architectures()["cnn"](width=4, stages=1)
NET = imagenet("Net_Weights.IMAGENET1K_V1")
HEAD = ("fc.weight", "fc.bias")


def images(outputs, channels=3):
    taken = ImageInput(height=8, width=8, channels=channels)
    return Signature(task="image-classification", input=taken, outputs=outputs)


def card(classes, channels=3):
    mean = (0.5,) * channels
    made = ImagePreprocessing(height=8, width=8, channels=channels, mean=mean, std=mean)
    return ModelCard(
        model=SPEC, signature=images(len(classes), channels), preprocessing=made, classes=classes
    )


def assert_equal(found, expected, but=()):
    assert found.keys() == expected.keys()
    for name in found.keys() - set(but):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.fixture
def fetched(tmp_path):
    """A checkpoint of a thousand classes in half precision, wrapped, and older than counters."""
    weights = initial_weights(SPEC, images(1000), 9)
    older = {
        f"module.{name}": array.astype(np.float16)
        for name, array in weights.items()
        if not name.endswith("num_batches_tracked")
    }
    tensor_files.write(older, tmp_path / "weights", {})
    return Fetched(tmp_path / "weights", None), {
        name: array if array.dtype == np.int64 else array.astype(np.float16).astype(np.float32)
        for name, array in weights.items()
    }


@pytest.mark.parametrize("classes", [("a", "b"), tuple(map(str, range(1000)))], ids=["few", "as many"])
def test_a_published_checkpoint_gives_all_but_the_head(fetched, classes):
    origin = of_published(NET, fetched[0], SPEC, images(len(classes)))
    state = origin.begin(card(classes), 3)
    check_weights(state.weights, card(classes))
    assert (state.step, state.slots, state.card) == (0, {}, card(classes))
    assert_equal(state.weights, fetched[1], but=HEAD)
    fresh = initial_weights(SPEC, images(len(classes)), 3)
    assert all(np.array_equal(state.weights[name], fresh[name]) for name in HEAD)


def test_images_are_normalised_as_the_publisher_did_it(fetched):
    known = of_published(NET, fetched[0], SPEC, images(2)).known
    assert known == ImagePreprocessing(height=8, width=8, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def test_grey_images_fit_too(fetched):
    origin = of_published(NET, fetched[0], SPEC, images(2, channels=1))
    assert origin.known is not None
    assert (origin.known.channels, len(origin.known.mean)) == (1, 1)
    state = origin.begin(card(("a", "b"), channels=1), 0)
    first = next(name for name, array in fetched[1].items() if array.ndim == 4)
    assert_equal(state.weights, fetched[1], but=(*HEAD, first))
    np.testing.assert_allclose(state.weights[first][:, 0], fetched[1][first].sum(axis=1), rtol=1e-6)


def test_a_checkpoint_with_numbers_that_are_none_is_refused(fetched, tmp_path):
    tensors = tensor_files.read(fetched[0].weights)[1]
    tensors["module.stages.0.conv1.weight"] = tensors["module.stages.0.conv1.weight"] * np.float16(np.nan)
    tensor_files.write(tensors, tmp_path / "broken", {})
    origin = of_published(NET, Fetched(tmp_path / "broken", None), SPEC, images(2))
    with pytest.raises(InvalidInput, match="holds values that are not finite"):
        origin.begin(card(("a", "b")), 0)


@pytest.mark.parametrize(
    ("classes", "kept"), [(("a", "b"), True), (("b", "a"), False), (("a", "b", "c"), False)]
)
def test_a_model_keeps_its_head_for_the_very_same_classes(classes, kept):
    weights = initial_weights(SPEC, images(2), 9)
    origin = of_model(WeightsFile(card(("a", "b")), weights))
    assert origin.known == card(("a", "b")).preprocessing
    state = origin.begin(card(classes), 3)
    assert_equal(state.weights, weights, but=() if kept else HEAD)
    if not kept:
        fresh = initial_weights(SPEC, images(len(classes)), 3)
        assert all(np.array_equal(state.weights[name], fresh[name]) for name in HEAD)


def test_a_state_goes_on_as_it_stands():
    weights = initial_weights(SPEC, images(2), 9)
    before = TrainingState(weights, {"exp_avg": weights}, step=5, best_value=0.5, card=card(("a", "b")))
    origin = of_state(before)
    assert origin.known == card(("a", "b")).preprocessing
    state = origin.begin(card(("b", "a")), 3)
    assert (state.step, state.best_value, state.card) == (5, 0.5, card(("b", "a")))
    assert state.weights is weights
    with pytest.raises(InvalidInput, match="has shape"):
        origin.begin(card(("a", "b", "c")), 3)
    assert of_state(TrainingState(weights)).known is None


def test_with_nothing_the_seed_decides():
    state = Origin().begin(card(("a", "b")), 3)
    assert_equal(state.weights, initial_weights(SPEC, images(2), 3))
