"""Uploads in .npz: what is taken, what is refused and why, and what a hostile file does (nothing)."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.data.uploads import Limits, UploadOptions, ingest
from models.data.uploads import npy as npy_format
from models.errors import InvalidInput

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 4), dtype=np.uint8)
TABLE = np.random.default_rng(0).normal(size=(20, 3))
LABELS = np.arange(20) % 2


def packed(**found):
    buffer = io.BytesIO()
    np.savez(buffer, **found)
    return buffer.getvalue()


@pytest.fixture
def upload(tmp_path):
    def upload(content, task="image-classification", **options):
        path = tmp_path / "upload"
        path.write_bytes(content if isinstance(content, bytes) else packed(**content))
        return ingest(path, "d.npz", UploadOptions(task, **options))

    return upload


def refused(upload, content, words, task="image-classification", pointer="/file", **options):
    with pytest.raises(InvalidInput, match=words) as caught:
        upload(content, task, **options)
    assert caught.value.pointer in (pointer, None)


def all_rows(dataset):
    return np.concatenate([dataset.train.x, dataset.validation.x, dataset.test.x])


def sorted_rows(x):
    return sorted(map(bytes, np.ascontiguousarray(x)))


# --- what is taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_images_keep_their_pixels(upload, save, channels):
    x = IMAGES if channels is None else np.repeat(IMAGES[..., None], channels, axis=3)
    buffer = io.BytesIO()
    save(buffer, x=x, y=LABELS)
    dataset = upload(buffer.getvalue())
    assert dataset.train.x.dtype == np.uint8
    assert dataset.description.input.shape == (5, 4, channels or 1)
    assert sorted_rows(all_rows(dataset)) == sorted_rows(x)
    assert dataset.description.classes == ("0", "1")


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "f2", "f4", ">f8"])
def test_pixels_of_any_numeric_type_become_uint8(upload, dtype):
    dataset = upload({"x": IMAGES.astype(dtype), "y": LABELS})
    assert sorted_rows(all_rows(dataset)) == sorted_rows(IMAGES)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fractions_from_zero_to_one_are_scaled(upload, dtype):
    dataset = upload({"x": (IMAGES / 255).astype(dtype), "y": LABELS})
    assert sorted_rows(all_rows(dataset)) == sorted_rows(IMAGES)


def test_the_scale_is_decided_for_all_parts_together(upload):
    dark = np.full((5, 5, 4), 1.0)
    dataset = upload(
        {"x_train": IMAGES.astype(float), "y_train": LABELS, "x_test": dark, "y_test": LABELS[:5]}
    )
    assert (dataset.test.x == 1).all()


def test_whole_numbers_of_zero_and_one_are_not_fractions(upload):
    dataset = upload({"x": IMAGES % 2, "y": LABELS})
    assert all_rows(dataset).max() == 1


def test_fortran_order_and_other_byte_orders_are_read(upload):
    x = np.asfortranarray(TABLE.astype(">f8"))
    dataset = upload({"x": x, "y": LABELS.astype(">i2")}, "tabular-classification")
    assert sorted_rows(all_rows(dataset)) == sorted_rows(TABLE.astype(np.float32))
    assert dataset.description.input.columns == ("x0", "x1", "x2")


def test_given_splits_are_kept(upload):
    found = {"x_train": TABLE, "y_train": LABELS, "x_test": TABLE[:4], "y_test": LABELS[:4]}
    dataset = upload(found, "tabular-classification")
    assert np.array_equal(dataset.test.x, TABLE[:4].astype(np.float32))
    assert dataset.description.splits.model_dump() == {"train": 18, "validation": 2, "test": 4}

    found |= {"x_val": TABLE[4:7], "y_val": LABELS[4:7]}
    dataset = upload(found, "tabular-classification")
    assert np.array_equal(dataset.train.x, TABLE.astype(np.float32))
    assert np.array_equal(dataset.validation.x, TABLE[4:7].astype(np.float32))


def test_training_rows_alone_are_split(upload):
    dataset = upload({"x_train": TABLE, "y_train": LABELS}, "tabular-classification", test_fraction=0.5)
    assert dataset.description.splits.model_dump() == {"train": 9, "validation": 1, "test": 10}
    found = {"x": TABLE, "y": LABELS}
    dataset = upload(found, "tabular-classification", test_fraction=0.5, validation_fraction=0.3)
    assert dataset.description.splits.model_dump() == {"train": 7, "validation": 3, "test": 10}


def test_statistics_come_from_the_training_rows_only(upload):
    found = {"x_train": TABLE, "y_train": TABLE[:, 0], "x_test": TABLE + 1000, "y_test": TABLE[:, 0] + 1000}
    dataset = upload(found, "tabular-regression")
    assert np.allclose(dataset.preprocessing.mean, dataset.train.x.mean(axis=0, dtype=np.float64))
    assert np.isclose(dataset.preprocessing.target_std, dataset.train.y.std(dtype=np.float64))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 2, -3], ("-3", "2", "10")),
        (["dog", "cat", "Émile"], ("cat", "dog", "Émile")),
        ([b"dog", b"cat", b"\xc3\x89"], ("cat", "dog", "É")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
        ([" a", "b ", "c"], ("a", "b", "c")),
    ],
    ids=str,
)
def test_labels_are_numbers_or_texts_and_classes_are_in_order(upload, labels, classes):
    y = np.array(labels)[np.arange(20) % 3]
    dataset = upload({"x": IMAGES, "y": y})
    assert dataset.description.classes == classes
    by_pixels = {bytes(row): label for row, label in zip(IMAGES, y.tolist(), strict=True)}
    for split in (dataset.train, dataset.validation, dataset.test):
        for row, label in zip(split.x, split.y, strict=True):
            original = by_pixels[bytes(row)]
            original = original.decode() if isinstance(original, bytes) else str(original)
            assert classes[label] == original.strip()


def test_a_column_of_labels_is_taken_as_labels(upload):
    assert upload({"x": IMAGES, "y": LABELS[:, None]}).train.y.ndim == 1


def test_the_same_file_gives_the_same_dataset(upload):
    first, second = (upload({"x": IMAGES, "y": LABELS}) for _ in range(2))
    assert np.array_equal(first.train.x, second.train.x)
    assert first.description == second.description


# --- what is refused ----------------------------------------------------------------------------------------------

NAN = TABLE.copy()
NAN[7, 1] = np.nan


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"x": IMAGES}, "no 'y'"),
        ({"y": LABELS}, "no 'x'"),
        ({}, "Name the arrays"),
        ({"x": IMAGES, "y": LABELS, "z": LABELS}, "Unknown array 'z'"),
        ({"X": IMAGES, "y": LABELS}, "Did you mean 'x'"),
        ({"x_trian": IMAGES, "y_train": LABELS}, "Did you mean 'x_train'"),
        ({"x": IMAGES, "y": LABELS, "x_test": IMAGES, "y_test": LABELS}, "x and y, or x_train"),
        ({"x_test": IMAGES, "y_test": LABELS}, "x and y, or x_train"),
        ({"x": IMAGES, "y": LABELS[:-1]}, "x has 20 rows but y has 19"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, "needed are rows"),
        ({"x": IMAGES[:, :0], "y": LABELS}, "needed are rows"),
        ({"x": LABELS, "y": LABELS}, "needed are rows"),
        ({"x": IMAGES, "y": np.array(3)}, "needed are rows"),
        ({"x": TABLE, "y": LABELS}, "tabular-classification"),
        ({"x": np.zeros((20, 3, 8, 9), "u1"), "y": LABELS}, r"N, C, H, W.*x.transpose\(0, 2, 3, 1\)"),
        ({"x": np.zeros((20, 1, 8, 9), "u1"), "y": LABELS}, "transpose"),
        ({"x": np.zeros((20, 8, 9, 4), "u1"), "y": LABELS}, "1 or 3 channels"),
        ({"x": np.zeros((20, 2, 8, 9, 3), "u1"), "y": LABELS}, "1 or 3 channels"),
        ({"x": IMAGES.astype(int) - 1, "y": LABELS}, "between -1 and"),
        ({"x": IMAGES * 256.0, "y": LABELS}, "0 to 255"),
        ({"x": np.where(IMAGES > 9, np.nan, 0), "y": LABELS}, "NaN"),
        ({"x": np.where(IMAGES > 9, np.inf, 0), "y": LABELS}, "infinite"),
        ({"x": IMAGES.astype(str), "y": LABELS}, "holds texts"),
        ({"x": IMAGES, "y": LABELS.astype(float)}, "whole numbers or texts"),
        ({"x": IMAGES, "y": LABELS.astype(bool)}, "whole numbers or texts"),
        ({"x": IMAGES, "y": np.eye(2, dtype=int)[LABELS]}, r"one-hot.*argmax\(axis=1\)"),
        ({"x": IMAGES, "y": LABELS * 0}, "single class"),
        ({"x": IMAGES, "y": np.arange(20)}, "too few"),
        ({"x": IMAGES[:3], "y": LABELS[:3]}, "too few"),
        ({"x": IMAGES, "y": np.array(["", "a"])[LABELS]}, "empty"),
        ({"x": IMAGES, "y": np.array(["a\x07", "b"])[LABELS]}, "not printable"),
        ({"x": IMAGES, "y": np.array(["a" * 300, "b"])[LABELS]}, "longer than 200"),
        ({"x": IMAGES, "y": np.array([b"\xff", b"b"])[LABELS]}, "Unicode"),
        ({"x": IMAGES, "y": np.array([0xD800, 97], "u4").view("U1")[LABELS]}, "Unicode|printable"),
        ({"x": IMAGES, "y": np.array([0x7FFFFFFF, 97], "u4").view("U1")[LABELS]}, "Unicode"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :4], "y_test": LABELS},
            "differ in the shape",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1},
            "No training row has class '2'",
        ),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else " ".join(f"{k}{v.shape}" for k, v in value.items())
    ),
)
def test_arrays_that_are_no_image_set_are_refused(upload, found, words):
    refused(upload, found, words)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"x": IMAGES, "y": LABELS}, "image-classification"),
        ({"x": NAN, "y": LABELS}, r"x\[7, 1\] is nan"),
        ({"x": TABLE * 1e39, "y": LABELS}, "fit a 32-bit float"),
        ({"x": TABLE, "y": TABLE * 1.0}, r"must be \[N\]"),
        ({"x": TABLE, "y": NAN[:, 1]}, r"y\[7\] is nan"),
        ({"x": TABLE, "y": TABLE[:, 0].astype(str)}, "holds texts"),
        ({"x": TABLE, "y": LABELS * 0}, "same value"),
        ({"x": TABLE[:2], "y": LABELS[:2]}, "too few"),
        ({"x": np.zeros((20, 5000)), "y": LABELS}, "at most 4096"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else " ".join(f"{k}{v.shape}" for k, v in value.items())
    ),
)
def test_arrays_that_are_no_regression_table_are_refused(upload, found, words):
    refused(upload, found, words, task="tabular-regression")


def test_a_target_belongs_to_csv(upload):
    refused(upload, {"x": IMAGES, "y": LABELS}, "target names a column", target="y", pointer="/target")


def test_too_many_classes_suggest_regression(upload):
    y = np.arange(20) // 2
    refused(upload, {"x": IMAGES, "y": y}, "tabular-regression", limits=Limits(classes=9))


# --- hostile files ------------------------------------------------------------------------------------------------


def npy(header, body=b"", version=1):
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + length + text + body


def declares(shape="(20, 5, 4)", descr="'|u1'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def archive(compression=zipfile.ZIP_STORED, **entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


GOOD = npy(declares(), IMAGES.tobytes())
GOOD_LABELS = npy(declares("(20,)", "'<i8'"), LABELS.astype("<i8").tobytes())


@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_versions_of_the_npy_format_are_read(upload, version):
    dataset = upload(archive(x=npy(declares(), IMAGES.tobytes(), version), y=GOOD_LABELS))
    assert sorted_rows(all_rows(dataset)) == sorted_rows(IMAGES)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (b"", "not in NumPy's"),
        (b"\x93NUMPY", "not in NumPy's"),
        (b"\x93NUMPY\x09\x00\x00\x00", "not in NumPy's"),
        (b"PK\x03\x04aaaaaaaaaa", "not in NumPy's"),
        (npy("{}"), "damaged"),
        (npy(""), "damaged"),
        (npy("["), "damaged"),
        (npy("[" * 9000), "damaged"),
        (npy("-" * 9000), "damaged"),
        (npy("{'a': 1, []: 2}"), "damaged"),
        (npy(b"\xff\x00"), "damaged"),
        (npy("__import__('os').getcwd()"), "damaged"),
        (npy(" " * 11_000), "too long"),
        (npy(declares(fortran="1")), "damaged"),
        (npy(declares("(-1, 2)")), "damaged"),
        (npy(declares("(True, 2)")), "damaged"),
        (npy(declares("'ab'")), "damaged"),
        (npy(declares("(2.0,)")), "damaged"),
        (npy(declares(str((1,) * 9))), "damaged"),
        (npy(declares(descr="'|O'"), b"cos\nsystem\n(S'true'\ntR."), "objects"),
        (npy(declares(descr="'<M8[s]'")), "another type"),
        (npy(declares(descr="'<c16'")), "another type"),
        (npy(declares(descr="'<f16'")), "another type"),
        (npy(declares(descr="[('a', '<f4')]")), "structures"),
        (npy(declares(descr="'<U99999999999'")), "another type"),
        (npy(declares("(20, 5, 5)"), IMAGES.tobytes()), "does not hold what"),
        (npy(declares("(20, 5, 3)"), IMAGES.tobytes()), "does not hold what"),
        (npy(declares("(281474976710655, 281474976710655)")), "does not hold what"),
        (npy(declares("(0, 281474976710655)")), "needed are rows"),
        (npy(declares("(20, 5, 4)", "'<U0'")), "another type"),
        (npy(declares("(20, 5, 4)", "'<U1'"), bytes(1600)), "holds texts"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_damaged_or_lying_array_header_is_refused(upload, x, words):
    refused(upload, archive(x=x, y=GOOD_LABELS), words)


def test_an_archive_that_would_unpack_far_beyond_its_size_is_refused_before_it_does(upload):
    zeros = npy(declares("(200, 1000, 1000)"), bytes(200_000_000))
    bomb = archive(zipfile.ZIP_DEFLATED, x=zeros, y=GOOD_LABELS)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    refused(upload, bomb, "times larger than the archive")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_arrays_beyond_the_limit_are_refused_by_their_headers(upload):
    refused(
        upload, archive(x=GOOD, y=GOOD_LABELS), "at most 100 are taken", limits=Limits(expanded_bytes=100)
    )


def test_a_file_that_is_all_directory_is_refused_without_reading_it(upload):
    size = 50 << 20
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    content = b"PK\x01\x02" + bytes(size - 4) + end
    tracemalloc.start()
    with_file = tracemalloc.get_traced_memory()[0]
    refused(upload, content, "not a readable .npz")
    assert tracemalloc.get_traced_memory()[1] - with_file < 20_000_000
    tracemalloc.stop()


def test_arrays_of_the_same_name_are_refused(upload):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", GOOD)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x.npy", GOOD)
        file.writestr("y.npy", GOOD_LABELS)
    refused(upload, buffer.getvalue(), "same name")


@pytest.mark.parametrize("name", ["../x.npy", "/etc/x.npy", "x.txt", "x", "x/", "x\u202e.npy", "a" * 3000])
def test_other_entries_are_refused_by_name(upload, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"")
    refused(upload, buffer.getvalue(), "Unknown array")


def test_a_flipped_bit_is_noticed(upload):
    content = bytearray(archive(x=GOOD, y=GOOD_LABELS))
    content[content.index(IMAGES.tobytes()) + 30] ^= 1
    refused(upload, bytes(content), "not a readable .npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(upload, compression):
    refused(upload, archive(compression, x=GOOD, y=GOOD_LABELS), "np.savez")


WHOLE = [
    archive(x=GOOD, y=GOOD_LABELS),
    archive(zipfile.ZIP_DEFLATED, x=GOOD, y=GOOD_LABELS),
    archive(zipfile.ZIP_LZMA, x=GOOD, y=GOOD_LABELS),
    archive(zipfile.ZIP_BZIP2, x=GOOD, y=GOOD_LABELS),
]


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    st.none() | st.integers(0, 3000),
)
def test_damaged_archives_are_read_or_refused(upload, content, changes, keep):
    damaged = bytearray(content[:keep])
    for place, value in changes:
        if damaged:
            damaged[place % len(damaged)] = value
    try:
        upload(bytes(damaged))
    except InvalidInput as error:
        assert error.detail.endswith((".", ")", "?"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80), st.binary(max_size=40), st.sampled_from([1, 2, 3]))
def test_any_array_header_at_all_is_read_or_refused(upload, header, body, version):
    with pytest.raises(InvalidInput):
        upload(archive(x=npy(header.encode("utf-8", "replace"), body, version), y=GOOD_LABELS))


dtypes = st.sampled_from(["b1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", "U3", "S3"])
any_array = st.builds(lambda d, s: (d, s), dtypes, array_shapes(min_dims=0, max_dims=5, max_side=7)).flatmap(
    lambda both: arrays(both[0], both[1])
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.dictionaries(
        st.sampled_from(["x", "y", "x_train", "y_train", "x_test", "y_test", "x_val", "y_val"]), any_array
    ),
    st.sampled_from(["image-classification", "tabular-classification", "tabular-regression"]),
)
def test_any_arrays_at_all_are_read_or_refused(upload, found, task):
    try:
        dataset = upload(found, task)
    except InvalidInput as error:
        assert error.detail.endswith((".", ")", "?"))
    else:
        assert len(dataset.train) == dataset.description.splits.train
        assert np.isfinite(dataset.train.x).all()


def test_an_array_followed_by_more_or_less_than_it_declares_is_refused():
    header = npy_format.read_header(io.BytesIO(GOOD), "x")
    body = GOOD[header.offset :]
    assert np.array_equal(npy_format.read_data(io.BytesIO(body), header, "x"), IMAGES)
    for wrong in (body + b"\0", body[:-1], b""):
        with pytest.raises(InvalidInput, match="does not hold what"):
            npy_format.read_data(io.BytesIO(wrong), header, "x")
