"""What a network takes and gives, read off the shapes of its weights."""

import pytest

from models.catalog import architectures, declarations
from models.checkpoints.shapes import channels, features, outputs, vocabulary
from models.signature import ImageInput, Signature, TableInput, TokenInput

SPECS = {
    name: spec(
        **{
            "mlp": {"hidden": (6, 5)},
            "vgg11": {"width": 3, "hidden": 11},
            "vgg16": {"width": 3, "hidden": 11},
            "convnext_tiny": {"depths": (1, 1, 1, 1), "widths": (3, 5, 8, 7)},
            "cnn": {"width": 4, "stages": 2},
            "vit": {"patch_size": 4, "layers": 1, "heads": 1, "hidden": 3, "mlp": 5},
            "bilstm": {"embedding": 6, "hidden": 5},
            "transformer": {"layers": 1, "heads": 1, "hidden": 8, "mlp": 12, "length": 16},
            "distilbert": {"layers": 1, "heads": 1, "hidden": 8, "mlp": 12, "positions": 20, "length": 16},
        }.get(name, {})
    )
    for name, spec in architectures().items()
}
IMAGES, TABLES, TEXTS = "image-classification", "tabular-classification", "text-classification"


def images(count, taken=3):
    return Signature(task=IMAGES, input=ImageInput(height=32, width=32, channels=taken), outputs=count)


def rows(count, width=4):
    columns = tuple(f"c{index}" for index in range(width))
    return Signature(task=TABLES, input=TableInput(features=width, columns=columns), outputs=count)


def tokens(count, known=30):
    return Signature(task=TEXTS, input=TokenInput(vocabulary=known, length=16, padding=0), outputs=count)


KINDS = {IMAGES: images, TABLES: rows, TEXTS: tokens}
CASES = [(name, task) for name, spec in SPECS.items() for task in spec.tasks if task in KINDS]


def of(task):
    return [name for name, one in CASES if one == task]


def shapes(spec, signature):
    return {name: tensor.shape for name, tensor in declarations(spec, signature).items()}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_outputs_are_read_off_the_last_layer(name, task, count):
    spec, signature = SPECS[name], KINDS[task]
    assert outputs(shapes(spec, signature(count)), spec, signature(2)) == count


@pytest.mark.parametrize(("name", "task"), CASES)
def test_weights_without_the_last_layer_do_not_tell_the_outputs(name, task):
    spec, signature = SPECS[name], KINDS[task]
    rest = {key: shape for key, shape in shapes(spec, signature(3)).items() if not spec.in_head(key)}
    assert outputs(rest, spec, signature(2)) is None
    assert outputs({}, spec, signature(2)) is None


@pytest.mark.parametrize("taken", [1, 3])
@pytest.mark.parametrize("assumed", [1, 3])
@pytest.mark.parametrize("name", of(IMAGES))
def test_channels_are_read_off_the_first_layer(name, taken, assumed):
    spec = SPECS[name]
    flattened = 32 * 32 if name in ("linear", "mlp") else 1
    found = channels(shapes(spec, images(5, taken)), spec, images(2, assumed))
    assert found == taken * flattened
    assert channels({}, spec, images(2, assumed)) is None


@pytest.mark.parametrize("width", [1, 4, 5, 200])
@pytest.mark.parametrize("name", of(TABLES))
def test_features_are_read_off_the_first_layer(name, width):
    assert features(shapes(SPECS[name], rows(3, width)), SPECS[name], rows(2, 4)) == width
    assert features({}, SPECS[name], rows(2)) is None


@pytest.mark.parametrize("known", [1, 30, 30522])
@pytest.mark.parametrize("name", of(TEXTS))
def test_the_vocabulary_is_read_off_the_embeddings(name, known):
    assert vocabulary(shapes(SPECS[name], tokens(3, known)), SPECS[name], tokens(2, 1)) == known
    assert vocabulary({}, SPECS[name], tokens(2)) is None


def test_a_tensor_of_another_rank_tells_nothing():
    spec = SPECS["linear"]
    assert outputs({"linear.weight": (3,), "linear.bias": ()}, spec, rows(2)) is None
