"""Checkpoints that somebody has: what is read off the weights, what must be said, and what is refused."""

import json
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from models import tensor_files
from models.catalog import architectures, declarations
from models.checkpoints.importing import ImportOptions, imported
from models.errors import InvalidInput
from models.preprocessing import TextPreprocessing
from models.preprocessing.options import PreprocessSpec
from models.signature import ImageInput, Signature
from models.weights import WeightsFile, write_weights
from tests.models.exportable import IMAGES, exportable, regression, weights

GREY = PreprocessSpec(size=(8, 8))
SIZE = PreprocessSpec(size=(32, 32))


@pytest.fixture
def plain(tmp_path):
    """Tensors in a safetensors file that says nothing else."""

    def write(tensors):
        path = tmp_path / "checkpoint.safetensors"
        tensor_files.write(tensors, path, {})
        return path

    return write


def told(file):
    """What has to be said of this model's weights."""
    card = file.card
    about = card.preprocessing
    if isinstance(about, TextPreprocessing):
        return ImportOptions(model=card.model, classes=card.classes, tokenizer=about.tokenizer)
    if card.signature.input.kind == "image":
        size = PreprocessSpec(
            size=(about.height, about.width), mean=about.mean, std=about.std, resize="stretch"
        )
        return ImportOptions(model=card.model, classes=card.classes, preprocess=size)
    return ImportOptions(
        model=card.model, classes=card.classes, columns=about.columns, task=card.signature.task
    )


def equal(some, others):
    return some.keys() == others.keys() and all(
        some[name].dtype == others[name].dtype and some[name].tobytes() == others[name].tobytes()
        for name in some
    )


@pytest.mark.parametrize("name", architectures())
def test_weights_of_every_architecture_become_the_model_that_they_are_of(name, plain):
    file = exportable(name)
    found = imported(plain(file.weights), told(file))
    assert equal(found.weights, file.weights)
    assert found.card == file.card


@pytest.mark.parametrize("name", architectures())
def test_a_file_of_ours_says_all_itself_and_stays_the_same(name, tmp_path):
    write_weights(exportable(name), tmp_path / "one.safetensors")
    write_weights(imported(tmp_path / "one.safetensors", ImportOptions()), tmp_path / "two.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()


def test_a_regression_of_ours_keeps_the_units_of_its_target(tmp_path):
    write_weights(regression(), tmp_path / "one.safetensors")
    assert imported(tmp_path / "one.safetensors", ImportOptions()).card == regression().card


def test_classes_and_images_of_a_file_of_ours_may_be_said_anew(tmp_path):
    write_weights(exportable("cnn"), tmp_path / "one.safetensors")
    asked = ImportOptions(classes=("a", "b", "c"), preprocess=PreprocessSpec(size=(16, 24), resize="pad"))
    card = imported(tmp_path / "one.safetensors", asked).card
    assert card.classes == ("a", "b", "c")
    assert (card.signature.input.height, card.signature.input.width) == (16, 24)
    assert card.preprocessing == IMAGES.model_copy(update={"height": 16, "width": 24, "resize": "pad"})


def test_a_file_of_ours_may_be_read_as_another_network_with_the_same_tensors(tmp_path):
    file = exportable("vgg11")
    write_weights(file, tmp_path / "one.safetensors")
    spec = file.card.model.model_copy(update={"dropout": 0.1})
    found = imported(tmp_path / "one.safetensors", replace(told(file), model=spec))
    assert found.card.model == spec


def test_a_network_of_torchvisions_takes_images_as_it_was_published(plain):
    spec = architectures()["resnet18"]()
    taken = ImageInput(height=224, width=224, channels=3)
    signature = Signature(task="image-classification", input=taken, outputs=1000)
    found = imported(plain(weights(spec, signature)), ImportOptions(model=spec))
    assert found.card.signature == signature
    assert found.card.classes == tuple(map(str, range(1000)))
    about = found.card.preprocessing
    assert (about.mean, about.std, about.resize) == (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        "crop",
    )


@pytest.mark.parametrize(("side", "patch"), [(24, 8), (20, 4)])
def test_a_vision_transformers_positions_tell_the_size_of_its_images(side, patch, plain):
    spec = architectures()["vit"](patch_size=patch, layers=1, heads=2, hidden=8, mlp=8)
    taken = ImageInput(height=side, width=side, channels=1)
    signature = Signature(task="image-classification", input=taken, outputs=4)
    assert imported(plain(weights(spec, signature)), ImportOptions(model=spec)).card.signature == signature


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_network_that_flattens_its_images_tells_their_channels(name, plain):
    spec = architectures()[name]()
    for channels in (1, 3):
        taken = ImageInput(height=8, width=8, channels=channels)
        signature = Signature(task="image-classification", input=taken, outputs=4)
        found = imported(plain(weights(spec, signature)), ImportOptions(model=spec, preprocess=GREY))
        assert found.card.signature == signature


def test_rows_are_told_apart_by_their_task(plain):
    spec = architectures()["linear"]()
    path = plain({"linear.weight": np.ones((1, 3), np.float32), "linear.bias": np.zeros(1, np.float32)})
    card = imported(path, ImportOptions(model=spec, task="tabular-regression")).card
    assert (card.signature.outputs, card.classes) == (1, None)
    assert card.preprocessing.columns == ("x0", "x1", "x2")
    with pytest.raises(InvalidInput, match="a class or a number") as caught:
        imported(path, ImportOptions(model=spec))
    assert caught.value.pointer == "/task"


def test_floats_of_every_width_become_float32(plain):
    spec = architectures()["linear"]()
    tensors = {"linear.weight": np.ones((2, 3), np.float64), "linear.bias": np.zeros(2, np.float16)}
    found = imported(plain(tensors), ImportOptions(model=spec, task="tabular-classification"))
    assert {array.dtype.name for array in found.weights.values()} == {"float32"}


def without(prefix):
    return lambda tensors: {name: array for name, array in tensors.items() if not name.startswith(prefix)}


def spoilt(tensors):
    return tensors | {"fc.bias": np.full_like(tensors["fc.bias"], np.nan)}


@pytest.mark.parametrize(
    ("name", "change", "options", "pointer", "message"),
    [
        ("cnn", spoilt, {}, "/file", "not finite"),
        ("cnn", lambda tensors: tensors | {"extra": np.ones(1, np.float32)}, {}, "/file", "no 'extra'"),
        ("cnn", without("stages.1.bn1.weight"), {}, "/file", "lack 'stages.1.bn1.weight'"),
        ("cnn", without("fc."), {}, "/file", "it is a backbone"),
        ("cnn", dict, {"classes": ("a", "b")}, "/classes", "2 classes, but the network has 3 outputs"),
        ("cnn", dict, {"preprocess": PreprocessSpec()}, "/preprocess/size", "how large the images are"),
        ("cnn", dict, {"tokenizer": "{}"}, "/tokenizer", "for texts"),
        ("cnn", dict, {"columns": ("a",)}, "/columns", "for rows"),
        (
            "cnn",
            dict,
            {"preprocess": PreprocessSpec(size=(32, 32), mean=(0.5,), std=(0.2,))},
            "/preprocess/mean",
            "1 number",
        ),
        ("cnn", dict, {"model": architectures()["cnn"](width=8, stages=2)}, "/file", "has shape"),
        ("cnn", dict, {"model": architectures()["mlp"]()}, "/file", "lack 'layers"),
        ("mlp", dict, {"preprocess": PreprocessSpec(size=(9, 9))}, "/preprocess/size", "takes 3072 values"),
        ("bilstm", dict, {"tokenizer": None}, "/tokenizer", "send the checkpoint's tokenizer"),
        ("bilstm", dict, {"preprocess": SIZE}, "/preprocess", "is for images"),
        ("distilbert", without("classifier."), {}, "/file", "it is a backbone"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, options, pointer, message, plain):
    file = exportable(name)
    path = plain(change(file.weights))
    with pytest.raises(InvalidInput, match=message) as caught:
        imported(path, replace(told(file), **options))
    assert caught.value.pointer == pointer


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(plain):
    file = exportable("bilstm")
    table = file.weights["embedding.weight"]
    with pytest.raises(InvalidInput, match="has embeddings of 5") as caught:
        imported(plain(file.weights | {"embedding.weight": table[:5]}), told(file))
    assert caught.value.pointer == "/tokenizer"


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 not safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"\xff" * 64]
)
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="cannot be read") as caught:
        imported(path, ImportOptions(model=architectures()["cnn"]()))
    assert caught.value.pointer == "/file"


def test_a_file_without_a_word_about_itself_needs_the_architecture(plain):
    with pytest.raises(InvalidInput, match="what network") as caught:
        imported(plain(exportable("cnn").weights), ImportOptions())
    assert caught.value.pointer == "/model"


def test_a_card_that_lies_is_refused(tmp_path):
    file = exportable("cnn")
    path = tmp_path / "lie.safetensors"
    card = json.loads(file.card.model_dump_json())
    card["signature"]["outputs"] = 7
    tensor_files.write(file.weights, path, {"tandem": json.dumps(card)})
    with pytest.raises(InvalidInput) as caught:
        imported(path, ImportOptions())
    assert caught.value.pointer in ("/file", "/classes")
    assert declarations(file.card.model, file.card.signature)


def rewritten(path, file, **changes):
    """The file with other entries in its card, by their path: `preprocessing__height=5`."""
    card = json.loads(file.card.model_dump_json())
    for place, value in changes.items():
        *outer, last = place.split("__")
        reduce(lambda part, name: part[name], outer, card)[last] = value
    tensor_files.write(file.weights, path, {"tandem": json.dumps(card)})
    return path


ROWS = {"kind": "table", "columns": ["a", "b"], "mean": [0.0, 0.0], "std": [1.0, 1.0]}
TWO = {"kind": "table", "columns": ["a", "b"], "features": 2}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cnn", {"preprocessing__height": 5}, "makes 5x32 images"),
        ("cnn", {"preprocessing": ROWS}, "makes rows of 2"),
        ("cnn", {"signature__task": "tabular-classification"}, "is not for 32x32 images"),
        ("mlp", {"preprocessing": ROWS, "signature__input": TWO}, "image-classification is not for rows"),
        ("bilstm", {"preprocessing__length": 5}, "makes texts of up to 5 tokens"),
        ("bilstm", {"preprocessing__padding": 1}, "they differ in size, columns or tokens"),
        (
            "bilstm",
            {"preprocessing__padding": 999, "signature__input__padding": 999},
            "no token of its vocab",
        ),
        ("bilstm", {"preprocessing__tokenizer": "{}"}, "not a tokenizer"),
    ],
)
def test_a_card_whose_parts_do_not_fit_each_other_is_refused(name, changes, message, tmp_path):
    path = rewritten(tmp_path / "lie.safetensors", exportable(name), **changes)
    with pytest.raises(InvalidInput, match=message) as caught:
        imported(path, ImportOptions())
    assert caught.value.pointer == "/file"


def test_floats_of_a_file_of_ours_become_what_the_network_has(tmp_path):
    file = exportable("cnn")
    wide = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in file.weights.items()
    }
    write_weights(WeightsFile(file.card, wide), tmp_path / "wide.safetensors")
    assert equal(imported(tmp_path / "wide.safetensors", ImportOptions()).weights, file.weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.ones(3, np.int8), "holds int8; the network needs float32"), (np.full(3, 1e300), "not finite")],
)
def test_numbers_that_the_network_cannot_hold_are_refused(values, message, tmp_path):
    file = exportable("cnn")
    spoilt = WeightsFile(file.card, file.weights | {"fc.bias": values})
    write_weights(spoilt, tmp_path / "spoilt.safetensors")
    with pytest.raises(InvalidInput, match=message) as caught:
        imported(tmp_path / "spoilt.safetensors", ImportOptions())
    assert caught.value.pointer == "/file"
