import json
import struct
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.catalog import architectures
from models.errors import CorruptArtifact
from models.initial import initial_weights
from models.preprocessing import TablePreprocessing
from models.signature import Signature, TableInput
from models.weights import ModelCard, WeightsFile, read_weights, write_weights

SPEC = architectures()["mlp"](hidden=(4,))
SIGNATURE = Signature(
    task="tabular-classification", input=TableInput(features=2, columns=("a", "b")), outputs=3
)


@pytest.fixture
def file():
    card = ModelCard(
        model=SPEC,
        signature=SIGNATURE,
        preprocessing=TablePreprocessing(columns=("a", "b"), mean=(0.0, 1.0), std=(1.0, 2.0)),
        classes=("x", "y", "z"),
    )
    return WeightsFile(card, initial_weights(SPEC, SIGNATURE, 0))


def rewritten(path, file, change):
    write_weights(file, path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"tandem": file.card.model_dump_json()})


def test_a_model_comes_back_with_its_card(tmp_path, file):
    write_weights(file, tmp_path / "w")
    found = read_weights(tmp_path / "w")
    assert found.card == file.card
    assert all(np.array_equal(found.weights[name], array) for name, array in file.weights.items())


def test_transposed_views_are_written_as_they_read(tmp_path, file):
    name = "layers.0.weight"
    turned = {**file.weights, name: np.asfortranarray(file.weights[name])}
    write_weights(WeightsFile(file.card, turned), tmp_path / "w")
    assert np.array_equal(read_weights(tmp_path / "w").weights[name], file.weights[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.0.bias"), "lack 'layers.0.bias'"),
        (lambda tensors: tensors.update(extra=np.zeros(1)), "has no 'extra'"),
        (lambda tensors: tensors.update({"layers.0.bias": np.zeros(5)}), r"shape \[5\]"),
        (lambda tensors: tensors.update({"layers.0.bias": np.full(4, np.nan)}), "not finite"),
    ],
)
def test_weights_that_do_not_fit_their_spec_are_refused(tmp_path, file, change, message):
    rewritten(tmp_path / "w", file, change)
    with pytest.raises(CorruptArtifact, match=message):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 2**40) + b"{}", b"\2\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(CorruptArtifact):
        read_weights(tmp_path / "w")


def test_a_truncated_file_is_refused(tmp_path, file):
    write_weights(file, tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-10])
    with pytest.raises(CorruptArtifact):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize("shape", [[1] * 9, [2**48 + 1, 0], [int("9" * 4200)] * 300], ids=len)
def test_a_shape_that_no_tensor_has_is_refused_before_it_is_multiplied(tmp_path, shape):
    header = json.dumps({"a": {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header)
    began = time.process_time()
    with pytest.raises(CorruptArtifact, match="in a way that is not known here"):
        read_weights(tmp_path / "w")
    assert time.process_time() - began < 1
