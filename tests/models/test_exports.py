"""Every architecture in every format, as others would run it."""

import contextlib
import json
import os
import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.catalog import architectures
from models.errors import CorruptArtifact, ExportFailed, InvalidInput, NotInstalled
from models.exports import formats
from models.exports.card import card_of
from models.exports.checking import BATCHES, batches, largest_difference, texts
from models.exports.exporting import export, reference
from models.exports.formats import FORMATS
from models.signature import TokenInput
from models.weights import write_weights
from tests.models.exportable import CLASSES, SENTENCES, exportable, regression, weights

ROOT = Path(__file__).parents[2]
OF_ALL = [format.name for format in FORMATS.values() if format.library is None]
DEEPER = {"resnet34", "vgg16"}  # more of the same blocks as resnet18 and vgg11


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def exported(model, format, folder):
    write_weights(model, folder / "model.safetensors")
    return export(folder / "model.safetensors", FORMATS[format], folder / "exported")


@pytest.mark.parametrize("name", [name for name in architectures() if name not in DEEPER])
@pytest.mark.parametrize("format", OF_ALL)
def test_every_architecture_leaves_in_every_format(name, format, tmp_path):
    found = exported(exportable(name), format, tmp_path)
    content = (tmp_path / "exported").read_bytes()
    assert found.largest_difference < 1e-5
    assert found.size_bytes == len(content)
    assert os.fsencode(ROOT) not in content  # nobody's business


def test_a_model_of_transformers_goes_to_from_pretrained_with_its_tokenizer_and_classes(tmp_path):
    model = exportable("distilbert")
    assert exported(model, "transformers", tmp_path).largest_difference < 1e-5
    shutil.unpack_archive(tmp_path / "exported", tmp_path / "folder", "zip")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "folder")
    for name, tensor in theirs.state_dict().items():
        assert np.array_equal(tensor.numpy(), model.weights[name]), name
    assert tuple(theirs.config.id2label.values()) == CLASSES
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    expected = model.card.preprocessing.batch(SENTENCES)
    found = tokenizer(SENTENCES, padding="max_length", max_length=expected.shape[1], return_tensors="np")
    assert np.array_equal(found["input_ids"], expected)
    assert np.array_equal(found["attention_mask"], expected != model.card.preprocessing.padding)


def test_a_format_that_is_for_others_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"'cnn' is not\. Use one of onnx") as caught:
        exported(exportable("cnn"), "transformers", tmp_path)
    assert caught.value.pointer == "/format"


@pytest.mark.parametrize("format", OF_ALL)
def test_a_regressions_output_is_in_the_targets_units(format, tmp_path):
    model = regression()
    exported(model, format, tmp_path)
    row = np.array([[47.0, 8123.0]], np.float32)
    (value,) = formats.writer(FORMATS[format]).read(tmp_path / "exported")(row)[0]
    about = model.card.preprocessing
    inside = (row[0] - about.mean) / about.std
    logit = inside @ model.weights["linear.weight"][0] + model.weights["linear.bias"][0]
    assert value == pytest.approx(150 + 77 * logit, rel=1e-5)


# What docs/exports.md says of each file, with the format's own tools and none of ours.


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Everything that the guide's examples define, by format, and the model that they run."""
    model = exportable("cnn")
    folder = tmp_path_factory.mktemp("digits")
    write_weights(model, folder / "model.safetensors")
    pixels = np.random.default_rng(5).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    found = {"pixels": pixels, "expected": reference(model, FORMATS["onnx"]).logits(pixels)}
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/exports.md").read_text(), re.MULTILINE | re.DOTALL
    )
    with contextlib.chdir(folder):
        for name, block in zip(OF_ALL, blocks, strict=True):
            format = FORMATS[name]
            export(folder / "model.safetensors", format, folder / f"digits{format.suffix}")
            found[format.name] = {"pixels": pixels}
            exec(block, found[format.name])
    return found


@pytest.mark.parametrize("format", OF_ALL)
def test_the_guides_way_to_run_a_file_works(format, unpacked):
    logits = np.asarray(unpacked[format]["logits"])
    np.testing.assert_allclose(logits, unpacked["expected"], rtol=1e-4, atol=1e-5)


def test_an_onnx_file_tells_what_it_takes_and_gives(unpacked):
    session = unpacked["onnx"]["session"]
    (port,), (output,) = session.get_inputs(), session.get_outputs()
    assert (port.name, port.type, port.shape) == ("image", "tensor(uint8)", ["batch", 32, 32, 3])
    assert (output.name, output.type, output.shape) == ("logits", "tensor(float)", ["batch", len(CLASSES)])
    assert session.get_modelmeta().custom_metadata_map["tandem"] == version("tandem")
    assert tuple(unpacked["onnx"]["classes"]) == CLASSES


def test_a_torch_export_file_holds_the_card(unpacked):
    card = json.loads(unpacked["torch-export"]["card"]["card.json"])
    assert tuple(card["model"]["classes"]) == CLASSES
    assert card["model"]["preprocessing"]["mean"] == [0.5, 0.4, 0.3]


def test_a_stablehlo_file_holds_the_card_and_stablehlo_for_cpus_and_gpus(unpacked):
    card = json.loads(unpacked["stablehlo"]["archive"].read("card.json"))
    module = unpacked["stablehlo"]["module"]
    assert tuple(card["model"]["classes"]) == CLASSES
    assert card["input"] == {"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}
    assert module.platforms == ("cpu", "cuda")
    assert "stablehlo.convolution" in module.mlir_module()


def test_an_onnx_file_is_valid(tmp_path):
    exported(exportable("linear"), "onnx", tmp_path)
    onnx.checker.check_model(tmp_path / "exported", full_check=True)


# What is wrong is not handed out.


@pytest.mark.parametrize("format", OF_ALL)
def test_a_file_that_computes_something_else_is_refused(format, tmp_path):
    model = exportable("linear")
    other = replace(model, weights=weights(model.card.model, model.card.signature, seed=1))
    writer = formats.writer(FORMATS[format])
    writer.write(other, card_of(model.card, format, "int64"), tmp_path / "exported")
    run = writer.read(tmp_path / "exported")
    with pytest.raises(ExportFailed, match="differ from the model's by"):
        largest_difference(run, reference(model, FORMATS[format]).logits, model.card)


def test_outputs_of_another_shape_or_none_at_all_are_refused():
    card = exportable("linear").card
    true = np.zeros(3, np.float32)

    def answer(x):
        return np.tile(true, (len(x), 1))

    assert largest_difference(answer, answer, card) == 0
    for wrong, words in (
        (lambda x: answer(x)[:1], "gives float32 .1, 3."),
        (lambda x: answer(x).astype(np.float64), "gives float64"),
        (lambda x: answer(x) * np.nan, "differ from the model's by nan"),
    ):
        with pytest.raises(ExportFailed, match=words):
            largest_difference(wrong, answer, card)


def test_the_check_takes_one_sample_and_odd_batches_and_whatever_pixels_there_are():
    found = list(batches(exportable("cnn").card))
    assert [len(x) for x in found] == list(BATCHES)
    assert {1, 5} <= set(BATCHES)
    assert found[-1].dtype == np.uint8
    assert found[-1].min() < 5
    assert found[-1].max() > 250


def test_texts_of_the_check_have_several_lengths_and_no_holes():
    input = TokenInput(vocabulary=4, length=9, padding=2)
    ids = texts(np.random.default_rng(0), input, 50, 9)
    lengths = (ids != 2).sum(1)
    assert lengths[0] == 9
    assert set(lengths) == set(range(1, 10))
    assert ((ids != 2) == (np.arange(9) < lengths[:, None])).all()
    assert set(ids.ravel()) == {0, 1, 2, 3}


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(InvalidInput, match="Did you mean 'onnx'") as caught:
        formats.find("onx")
    assert caught.value.pointer == "/format"


def test_a_format_says_what_is_missing():
    absent = replace(FORMATS["onnx"], packages=("onnx", "no_such_package"))
    with pytest.raises(NotInstalled, match=r"no_such_package; they come with tandem\[onnx\]"):
        absent.check_installed()


def test_weights_that_are_damaged_are_not_exported(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptArtifact):
        export(tmp_path / "model.safetensors", FORMATS["onnx"], tmp_path / "exported")
