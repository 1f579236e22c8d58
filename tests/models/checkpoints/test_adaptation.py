"""Weights fitted to other classes, grey images and images of another size; what cannot be fitted is named."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from models.catalog import architectures, declarations
from models.checkpoints.adaptation import adapted, changes, class_tensors
from models.errors import InvalidInput
from models.initial import initial_weights
from models.signature import ImageInput, Signature, TableInput, TokenInput

OPTIONS = {
    "mlp": {"hidden": (6, 5)},
    "cnn": {"width": 4, "stages": 2},
    "vgg11": {"width": 2, "hidden": 5},
    "vgg16": {"width": 2, "hidden": 5},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "widths": (3, 5, 8, 7)},
    "vit": {"patch_size": 4, "layers": 1, "heads": 1, "hidden": 6, "mlp": 5},
    "bilstm": {"embedding": 6, "hidden": 5},
    "transformer": {"layers": 1, "heads": 1, "hidden": 8, "mlp": 12, "length": 16},
    "distilbert": {"layers": 1, "heads": 1, "hidden": 8, "mlp": 12, "positions": 20, "length": 16},
}
SPECS = {name: spec(**OPTIONS.get(name, {})) for name, spec in architectures().items()}
HEADS = {
    **dict.fromkeys(SPECS, ("fc.weight", "fc.bias")),
    "linear": ("linear.weight", "linear.bias"),
    "mlp": ("layers.2.weight", "layers.2.bias"),
    "vgg11": ("classifier.6.weight", "classifier.6.bias"),
    "vgg16": ("classifier.6.weight", "classifier.6.bias"),
    "convnext_tiny": ("classifier.2.weight", "classifier.2.bias"),
    "vit": ("heads.head.weight", "heads.head.bias"),
    "distilbert": ("classifier.weight", "classifier.bias"),
}
"""What depends on the classes."""
GREY = {"cnn", "resnet18", "resnet34", "resnet50", "vgg11", "vgg16", "convnext_tiny", "vit"}
DEEP = ("resnet34", "resnet50", "vgg16")
LIGHT = [name for name in SPECS if name not in DEEP]
"""Architectures whose tensors are soon drawn, each kind among them."""


def images(count, channels=3, side=32):
    taken = ImageInput(height=side, width=side, channels=channels)
    return Signature(task="image-classification", input=taken, outputs=count)


def signature(name, count):
    task = SPECS[name].tasks[0]
    if task == "text-classification":
        return Signature(task=task, input=TokenInput(vocabulary=30, length=16, padding=0), outputs=count)
    return images(count)


def drawn_without_constants(spec, taken, seed=9):
    """Weights of which no tensor equals another draw by chance, as zeros and ones do."""
    generator = np.random.default_rng(seed)
    return {
        name: np.asarray(generator.normal(0, 1, tensor.shape)).astype(tensor.dtype)
        for name, tensor in declarations(spec, taken).items()
    }


def assert_equal(found, expected, but=()):
    for name, array in found.items():
        if name not in but:
            assert array.dtype == expected[name].dtype, name
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


# --- classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_the_head_is_what_depends_on_the_classes(name):
    assert class_tensors(SPECS[name], signature(name, 5)) == set(HEADS[name])


@pytest.mark.parametrize("name", LIGHT)
def test_the_same_classes_keep_every_tensor(name):
    spec, taken = SPECS[name], signature(name, 5)
    weights = drawn_without_constants(spec, taken)
    found = adapted(weights, spec, taken, same_classes=True, seed=3)
    assert list(found) == list(declarations(spec, taken))
    assert_equal(found, weights)
    assert all(found[key] is array for key, array in weights.items())


@pytest.mark.parametrize("count", [2, 5, 1000])
@pytest.mark.parametrize("name", LIGHT)
def test_other_classes_get_a_new_head_and_nothing_else(name, count):
    spec = SPECS[name]
    weights = drawn_without_constants(spec, signature(name, 5))
    found = adapted(weights, spec, signature(name, count), same_classes=False, seed=3)
    assert list(found) == list(declarations(spec, signature(name, count)))
    assert_equal(found, weights, but=HEADS[name])
    fresh = initial_weights(spec, signature(name, count), 3)
    assert_equal({key: found[key] for key in HEADS[name]}, fresh)


@pytest.mark.parametrize("name", ["resnet18", "mlp", "bilstm"])
def test_the_new_head_depends_on_the_seed(name):
    spec, taken = SPECS[name], signature(name, 5)
    weights = drawn_without_constants(spec, taken)
    first, again, other = (adapted(weights, spec, taken, same_classes=False, seed=one) for one in (3, 3, 4))
    assert_equal(first, again)
    assert_equal(first, other, but=HEADS[name])
    assert all(not np.array_equal(first[key], other[key]) for key in HEADS[name])


@pytest.mark.parametrize("name", SPECS)
def test_a_backbone_without_its_head_gets_a_whole_one(name):
    spec, taken = SPECS[name], signature(name, 5)
    shapes = {key: tensor.shape for key, tensor in declarations(spec, taken).items() if not spec.in_head(key)}
    heads = [key for key in declarations(spec, taken) if spec.in_head(key)]
    assert changes(shapes, spec, taken, same_classes=False) == dict.fromkeys(heads, "drawn")


def test_the_layer_before_distilberts_classifier_stays_where_it_was_trained():
    spec, taken = SPECS["distilbert"], signature("distilbert", 5)
    shapes = {name: tensor.shape for name, tensor in declarations(spec, taken).items()}
    other = signature("distilbert", 2)
    assert changes(shapes, spec, other, same_classes=False).keys() == set(HEADS["distilbert"])


def test_more_layers_in_the_head_of_others_are_left_out():
    spec, taken = SPECS["distilbert"], signature("distilbert", 5)
    weights = drawn_without_constants(spec, taken)
    found = adapted(weights | {"classifier.scale": np.ones(3)}, spec, taken, same_classes=True, seed=0)
    assert_equal(found, weights)
    assert found.keys() == weights.keys()


def test_rows_of_a_table_are_fitted_too():
    def rows(task, count):
        taken = TableInput(features=4, columns=tuple("abcd"))
        return Signature(task=task, input=taken, outputs=count)

    spec, one = SPECS["mlp"], rows("tabular-regression", 1)
    weights = drawn_without_constants(spec, one)
    assert_equal(adapted(weights, spec, one, same_classes=True, seed=0), weights)
    found = adapted(weights, spec, rows("tabular-classification", 3), same_classes=False, seed=0)
    assert_equal(found, weights, but=HEADS["mlp"])


# --- grey images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(GREY))
def test_grey_images_change_the_first_convolution_alone(name):
    spec = SPECS[name]
    shapes = {key: tensor.shape for key, tensor in declarations(spec, images(5)).items()}
    found = changes(shapes, spec, images(5, channels=1), same_classes=True)
    assert list(found.values()) == ["grey"]
    (first,) = found
    assert first == next(key for key in declarations(spec, images(5)) if len(shapes[key]) == 4)


@pytest.mark.parametrize("name", ["cnn", "vit", "vgg11"])
def test_a_grey_image_gives_what_it_gave_in_three_equal_channels(name):
    spec = SPECS[name]
    weights = drawn_without_constants(spec, images(5))
    found = adapted(weights, spec, images(5, channels=1), same_classes=True, seed=0)
    (first,) = (key for key in found if found[key].shape != weights[key].shape)
    grey = torch.randn(2, 1, 8, 8)
    expected = torch.conv2d(grey.expand(2, 3, 8, 8), torch.tensor(weights[first]))
    np.testing.assert_allclose(torch.conv2d(grey, torch.tensor(found[first])), expected, rtol=1e-4, atol=1e-5)
    assert found[first].dtype == np.float32


@pytest.mark.parametrize("name", [*sorted(GREY), "linear", "mlp"])
def test_coloured_images_cannot_be_made_of_grey_ones(name):
    spec = SPECS[name]
    grey = {key: tensor.shape for key, tensor in declarations(spec, images(5, channels=1)).items()}
    wanted = {key: tensor.shape for key, tensor in declarations(spec, images(5)).items()}
    (first, *_) = (key for key in wanted if grey[key] != wanted[key])
    assert_misfit(first, grey[first], wanted[first], grey, spec, images(5), same_classes=True)


# --- vision transformers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 16, 48, 4])
def test_positions_follow_the_size_as_torchvision_does_it(side):
    spec = SPECS["vit"]
    weights = drawn_without_constants(spec, images(5))
    found = adapted(weights, spec, images(5, side=side), same_classes=True, seed=0)
    assert_equal(found, weights, but=["encoder.pos_embedding"])
    state = OrderedDict({"encoder.pos_embedding": torch.tensor(weights["encoder.pos_embedding"])})
    expected = interpolate_embeddings(side, 4, state)["encoder.pos_embedding"]
    np.testing.assert_allclose(found["encoder.pos_embedding"], expected, rtol=0, atol=1e-5)


def test_classes_channels_and_size_may_change_together():
    spec = SPECS["vit"]
    shapes = {name: tensor.shape for name, tensor in declarations(spec, images(5)).items()}
    found = changes(shapes, spec, images(7, channels=1, side=16), same_classes=False)
    assert found == {
        "conv_proj.weight": "grey",
        "encoder.pos_embedding": "positions",
        **dict.fromkeys(HEADS["vit"], "drawn"),
    }


# --- what does not fit --------------------------------------------------------------------------------------------


def assert_misfit(name, there, here, shapes, spec, taken, *, same_classes=False):
    with pytest.raises(InvalidInput) as caught:
        changes(shapes, spec, taken, same_classes=same_classes)
    words = [str(list(shape)) if shape is not None else "absent" for shape in (there, here)]
    assert f"{name!r} is {words[0]} there and {words[1]} here." in caught.value.detail
    assert caught.value.specific_code == "shape_mismatch"


RESNET = {name: tensor.shape for name, tensor in declarations(SPECS["resnet18"], images(1000)).items()}


@pytest.mark.parametrize("same", [True, False])
def test_a_tensor_that_is_not_there_is_named(same):
    shapes = {name: shape for name, shape in RESNET.items() if name != "layer2.0.bn1.weight"}
    taken = images(1000)
    assert_misfit("layer2.0.bn1.weight", None, (128,), shapes, SPECS["resnet18"], taken, same_classes=same)


@pytest.mark.parametrize("same", [True, False])
def test_a_tensor_that_the_network_has_not_is_named(same):
    shapes = RESNET | {"layer5.0.weight": (3, 4)}
    assert_misfit("layer5.0.weight", (3, 4), None, shapes, SPECS["resnet18"], images(10), same_classes=same)


@pytest.mark.parametrize("same", [True, False])
def test_other_sizes_are_named(same):
    shapes = RESNET | {"layer3.1.conv2.weight": (256, 128, 3, 3)}
    there, here = shapes["layer3.1.conv2.weight"], (256, 256, 3, 3)
    assert_misfit(
        "layer3.1.conv2.weight", there, here, shapes, SPECS["resnet18"], images(10), same_classes=same
    )


def test_another_network_of_the_same_names_is_told_by_its_backbone():
    cifar = architectures()["resnet18"](stem="cifar")
    assert_misfit("conv1.weight", (64, 3, 7, 7), (64, 3, 3, 3), RESNET, cifar, images(10))


@pytest.mark.parametrize("same", [True, False])
def test_a_head_on_other_features_is_not_merely_one_of_other_classes(same):
    spec, taken = SPECS["linear"], images(5, side=8)
    shapes = {"linear.weight": (5, 64), "linear.bias": (5,)}
    assert_misfit("linear.weight", (5, 64), (5, 192), shapes, spec, taken, same_classes=same)


@pytest.mark.parametrize("there", [(1, 12, 6), (1, 65, 7), (65, 6), (2, 65, 6)])
def test_positions_that_are_no_square_are_refused(there):
    spec, taken = SPECS["vit"], images(5, side=16)
    shapes = {name: tensor.shape for name, tensor in declarations(spec, taken).items()}
    shapes["encoder.pos_embedding"] = there
    assert_misfit("encoder.pos_embedding", there, (1, 17, 6), shapes, spec, taken)


def test_embeddings_of_other_tokens_are_refused():
    spec, taken = SPECS["bilstm"], signature("bilstm", 2)
    shapes = {name: tensor.shape for name, tensor in declarations(spec, taken).items()}
    shapes["embedding.weight"] = (31, 6)
    assert_misfit("embedding.weight", (31, 6), (30, 6), shapes, spec, taken)


def test_nothing_fits_nothing():
    assert_misfit("conv1.weight", None, (64, 3, 7, 7), {}, SPECS["resnet18"], images(10))
