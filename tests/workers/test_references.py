"""Files that no row names any more are deleted, and only those."""

import os

import pytest

from workers import datasets, jobs, references


@pytest.fixture
def put(store, tmp_path):
    """Store a file as if long ago; its hash."""

    def make(content):
        source = tmp_path / "source"
        source.write_bytes(content)
        sha256 = store.put(source).sha256
        os.utime(store.path(sha256), (0, 0))
        return sha256

    return make


def test_a_file_that_nobody_names_is_swept(db, store, put):
    sha256 = put(b"of a worker that died before it could say so")
    assert references.sweep(db, store) == [sha256]
    assert not store.exists(sha256)


def test_weights_datasets_and_what_running_jobs_read_are_kept(db, store, put, claimed, model, tmp_path):
    weights, prepared, read = put(b"weights"), put(b"prepared"), put(b"read")
    finished, running = claimed(), claimed()
    jobs.finish(db, finished.job.id, finished.fence, model(b"weights"))
    datasets.record_prepared(db, "digits", store.put(store.path(prepared)))
    jobs.record(db, running.job.id, running.fence, dataset_sha256=read)
    os.utime(store.path(prepared), (0, 0))
    assert references.sweep(db, store) == []
    for sha256 in (weights, prepared, read):
        assert not references.discard(db, store, sha256)
        assert store.exists(sha256)


def test_a_file_is_spared_while_its_row_may_be_on_its_way(db, store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"fresh")
    sha256 = store.put(source).sha256
    assert not references.discard(db, store, sha256)
    assert references.sweep(db, store) == []
    assert store.exists(sha256)


def test_storing_a_file_again_spares_it_again(db, store, put, tmp_path):
    sha256 = put(b"same")
    store.put(tmp_path / "source")
    assert references.sweep(db, store) == []
    assert store.exists(sha256)
