"""What holds for uploads of every format."""

import numpy as np
import pytest

from models.data.uploads import SUFFIXES, TASKS, UploadOptions, ingest
from models.errors import InvalidInput


def npz(path):
    np.savez(path, x=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 2)
    return path


def test_the_formats_are_those_that_the_api_names():
    assert SUFFIXES == (".csv", ".jsonl", ".npz", ".parquet", ".zip")


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("data.nppz", "Did you mean '.npz'"),
        ("data.xlsx", "Known: .csv, .jsonl, .npz, .parquet, .zip"),
        ("data", "Known"),
        ("", "Known"),
        ("npz", "Known"),
        ("a." + "x" * 10_000, "Known"),
    ],
)
def test_an_unknown_suffix_names_the_known_ones(tmp_path, filename, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        ingest(npz(tmp_path / "d.npz"), filename, UploadOptions("tabular-classification"))
    assert caught.value.pointer == "/file"
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize("filename", ["d.npz", "D.NPZ", "../../etc/passwd.npz", "/x/\x00.npz"])
def test_only_the_suffix_of_the_clients_file_name_counts(tmp_path, filename):
    dataset = ingest(npz(tmp_path / "d.npz"), filename, UploadOptions("tabular-classification"))
    assert dataset.description.splits.train == 15


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("text-classification", "Send texts as .jsonl"),
        ("image-clasification", "Did you mean 'image-classification'"),
        ("", "Known"),
    ],
)
def test_a_task_that_uploads_cannot_serve_is_refused(tmp_path, task, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        ingest(npz(tmp_path / "d.npz"), "d.npz", UploadOptions(task))
    assert caught.value.pointer == "/task"


@pytest.mark.parametrize("name", ["test_fraction", "validation_fraction"])
@pytest.mark.parametrize("fraction", [0, 1, -0.1, 0.95, float("nan"), float("inf")])
def test_a_fraction_that_leaves_nothing_is_refused(tmp_path, name, fraction):
    with pytest.raises(InvalidInput) as caught:
        ingest(npz(tmp_path / "d.npz"), "d.npz", UploadOptions("tabular-classification", **{name: fraction}))
    assert caught.value.pointer == f"/{name}"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("content", "filename"),
    [(b"a,b\n1,2\n", "d.npz"), (b"PK\x03\x04\xff\xfe\x00", "d.csv"), (b"\x1f\x8b\x08\x00\xff", "d.csv")],
)
def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path, content, filename, task):
    (tmp_path / "d").write_bytes(content)
    target = "b" if filename == "d.csv" else None
    with pytest.raises(InvalidInput):
        ingest(tmp_path / "d", filename, UploadOptions(task, target=target))
