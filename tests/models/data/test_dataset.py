"""The file that a dataset is kept in: same bytes for same data, mapped when read, refused when damaged."""

import hashlib
import json
import mmap
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from models.data import dataset as datasets
from models.data import mapped
from models.data.assembly import assemble
from models.data.dataset import DatasetDescription, Split, Splits
from models.errors import CorruptArtifact, InvalidInput
from models.signature import ImageInput, TableInput


def images(seed=0):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (50, 4, 6, 3), dtype=np.uint8)
    return assemble("image-classification", Split(x, np.arange(50) % 3), classes=("a", "b", "ç"))


def table():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2)).astype(np.float32)
    return assemble(
        "tabular-regression", Split(x, x.sum(axis=1)), classes=None, columns=("one", "two"), target="sum"
    )


@pytest.fixture(params=[images, table])
def dataset(request):
    return request.param()


def arrays_of(dataset):
    return {
        (name, part): getattr(getattr(dataset, name), part) for name in datasets.SPLITS for part in ("x", "y")
    }


def test_what_was_written_is_read(dataset, tmp_path):
    datasets.write(dataset, tmp_path / "d")
    found = datasets.read(tmp_path / "d")
    assert found.description == dataset.description
    assert found.preprocessing == dataset.preprocessing
    for key, array in arrays_of(dataset).items():
        assert np.array_equal(arrays_of(found)[key], array)
        assert arrays_of(found)[key].dtype == array.dtype


def test_equal_datasets_give_equal_bytes(tmp_path):
    sums = set()
    for number in range(3):
        datasets.write(images(), tmp_path / str(number))
        sums.add(hashlib.sha256((tmp_path / str(number)).read_bytes()).hexdigest())
    assert len(sums) == 1
    datasets.write(datasets.read(tmp_path / "0"), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "0").read_bytes()
    datasets.write(images(seed=1), tmp_path / "other")
    assert (tmp_path / "other").read_bytes() != (tmp_path / "0").read_bytes()


def test_arrays_lie_in_the_file_and_writing_to_them_does_not_change_it(dataset, tmp_path):
    path = tmp_path / "d"
    datasets.write(dataset, path)
    before = path.read_bytes()
    array = datasets.read(path).train.x
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)
    array[:] = 0
    assert path.read_bytes() == before
    assert np.array_equal(datasets.read(path).train.x, dataset.train.x)


def test_any_safetensors_reader_reads_it(tmp_path):
    datasets.write(images(), tmp_path / "d")
    assert sorted(load_file(tmp_path / "d")) == sorted(f"{s}.{p}" for s in datasets.SPLITS for p in "xy")


def test_a_description_gives_the_signature():
    assert images().description.signature.outputs == 3
    assert table().description.signature.outputs == 1


@pytest.mark.parametrize(
    "change",
    [{"classes": None}, {"task": "tabular-regression"}, {"splits": {"train": 1, "validation": 0, "test": 1}}],
)
def test_a_description_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValidationError):
        DatasetDescription.model_validate(images().description.model_dump() | change)


def test_a_description_survives_json(dataset):
    text = dataset.description.model_dump_json()
    assert DatasetDescription.model_validate_json(text) == dataset.description
    assert DatasetDescription.model_validate(json.loads(text)) == dataset.description


def wide(name, columns=1000):
    x = np.random.default_rng(0).normal(size=(20, columns)).astype(np.float32)
    named = tuple(f"{name}{column}" for column in range(columns))
    return assemble("tabular-regression", Split(x, x.sum(axis=1)), classes=None, columns=named, target="sum")


def test_names_in_any_alphabet_are_kept(tmp_path):
    written = wide("показатель_" * 60)  # 3 MB with the preprocessing; escaped it would be 9 MB
    datasets.write(written, tmp_path / "d")
    assert datasets.read(tmp_path / "d").description == written.description


def test_a_dataset_whose_names_nobody_could_read_again_is_not_written(tmp_path):
    with pytest.raises(InvalidInput, match="names of the columns"):
        datasets.write(wide("long" * 1000), tmp_path / "d")
    assert not (tmp_path / "d").exists()


# --- damage -------------------------------------------------------------------------------------------------------


def file_of(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ONE = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


def twice(text):
    """A file whose header holds one entry two times."""
    return file_of(("{" + text + "," + text + "}").encode(), b"abcd")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        b"\x00" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 5 << 20) + b"{}" + b" " * ((5 << 20) - 2),
        file_of(b"not json"),
        file_of(b"\xff\xfe"),
        file_of(b"[" * 100_000),
        file_of([]),
        file_of({"a": ONE}, b"abc"),
        file_of({"a": ONE}, b"abcde"),
        file_of({"a": ONE | {"shape": [5]}}, b"abcd"),
        file_of({"a": ONE | {"shape": [-4]}}, b"abcd"),
        file_of({"a": ONE | {"shape": [2**62, 4]}}, b"abcd"),
        file_of({"a": ONE | {"shape": [4] + 8 * [1]}}, b"abcd"),
        file_of({"a": ONE | {"dtype": "F16", "shape": [2]}}, b"abcd"),
        file_of({"a": ONE | {"data_offsets": [1, 5]}}, b"abcde"),
        file_of({"a": ONE, "b": ONE}, b"abcd"),
        file_of({"a": {"note": "text"}}),
        file_of({"__metadata__": {"tandem": 5}}),
        file_of({"__metadata__": ONE}, b"abcd"),
        twice('"a":' + json.dumps(ONE)),
    ],
    ids=lambda content: repr(content[8:60]),
)
def test_a_header_that_does_not_describe_the_file_is_refused(content, tmp_path):
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(CorruptArtifact):
        mapped.read(tmp_path / "d")


def test_a_header_that_describes_the_file_is_read(tmp_path):
    (tmp_path / "d").write_bytes(file_of({"__metadata__": {"k": "v"}, "a": ONE}, b"abcd"))
    metadata, tensors = mapped.read(tmp_path / "d")
    assert metadata == {"k": "v"}
    assert tensors["a"].tolist() == list(b"abcd")


@pytest.mark.parametrize(
    "content",
    [
        file_of({}),
        file_of({"train.x": ONE}, b"abcd"),
        file_of({"__metadata__": {"tandem": "{}"}, "train.x": ONE}, b"abcd"),
        file_of({"__metadata__": {"tandem": "not json"}, "train.x": ONE}, b"abcd"),
    ],
    ids=lambda content: repr(content[8:60]),
)
def test_a_safetensors_file_that_is_no_dataset_is_refused(content, tmp_path):
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(CorruptArtifact):
        datasets.read(tmp_path / "d")


def test_a_missing_file_is_refused_without_its_path(tmp_path):
    with pytest.raises(CorruptArtifact) as caught:
        datasets.read(tmp_path / "nothing")
    assert str(tmp_path) not in caught.value.detail


def rewritten(path, change):
    """Write an image dataset whose tensors or metadata were changed by `change(tensors, metadata)`."""
    datasets.write(images(), path)
    tensors = load_file(path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    metadata = json.loads(header["__metadata__"]["tandem"])
    change(tensors, metadata)
    save_file(tensors, path, {"tandem": json.dumps(metadata)})


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, metadata: tensors.pop("test.y"),
        lambda tensors, metadata: tensors.update(extra=np.zeros(1, np.uint8)),
        lambda tensors, metadata: tensors.update({"test.y": tensors["test.y"][:-1]}),
        lambda tensors, metadata: tensors.update({"test.y": tensors["test.y"].astype(np.float32)}),
        lambda tensors, metadata: tensors.update({"test.y": tensors["test.y"] + 3}),
        lambda tensors, metadata: tensors.update({"test.y": tensors["test.y"] - 3}),
        lambda tensors, metadata: tensors.update({"train.x": tensors["train.x"].astype(np.float32)}),
        lambda tensors, metadata: tensors.update({"train.x": tensors["train.x"][:, :2].copy()}),
        lambda tensors, metadata: metadata.update(format=2),
        lambda tensors, metadata: metadata.pop("preprocessing"),
        lambda tensors, metadata: metadata["description"].update(task="nonsense"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change, tmp_path):
    rewritten(tmp_path / "d", change)
    with pytest.raises(CorruptArtifact):
        datasets.read(tmp_path / "d")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.integers(0, 20_000))
def test_a_damaged_file_is_refused_or_still_a_whole_dataset(tmp_path, changes, keep):
    datasets.write(images(), tmp_path / "whole")
    damaged = bytearray((tmp_path / "whole").read_bytes()[:keep])
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    (tmp_path / "d").write_bytes(damaged)
    try:
        found = datasets.read(tmp_path / "d")
    except CorruptArtifact as error:
        assert error.detail.endswith(".")
    else:
        assert len(found.train) == found.description.splits.train


def test_inputs_of_both_kinds_are_described():
    assert images().description.input == ImageInput(height=4, width=6, channels=3)
    assert table().description.input == TableInput(features=2, columns=("one", "two"))
    assert images().description.splits == Splits(train=38, validation=4, test=8)
