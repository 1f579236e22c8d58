"""Datasets: built-in ones without a trace before use, uploads with a file."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.data import dataset as dataset_file
from models.data.assembly import assemble
from models.data.builtin import BUILTIN
from models.data.dataset import Split
from models.errors import Conflict, InvalidInput, NotFound
from workers import datasets, idempotency, job_queries, jobs
from workers.artifacts import Artifact


@pytest.fixture
def images():
    x = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    return assemble("image-classification", Split(x, np.arange(40) % 2), classes=("a", "b"))


@pytest.mark.parametrize("name", BUILTIN)
def test_every_builtin_dataset_is_there_by_name_and_id_without_being_loaded(db, name):
    record = datasets.get(db, name)
    assert (record.builtin, record.sha256, record.size_bytes) == (True, None, None)
    assert record.description == BUILTIN[name].description
    assert datasets.get(db, record.id) == record


def test_a_builtin_dataset_is_there_by_id_before_anybody_asked_by_name(db):
    assert datasets.get(db, "ds_00000000007zykegj3agemw79x").name == "digits"


def test_threads_that_meet_a_builtin_dataset_together_agree(db):
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: datasets.get(db, "digits"), range(16)))
    assert len(set(map(id, found))) == 16
    assert all(record == found[0] for record in found)


def test_a_prepared_builtin_dataset_says_its_hash(db):
    datasets.record_prepared(db, "digits", Artifact("ab" * 32, 1234))
    record = datasets.get(db, "digits")
    assert (record.sha256, record.size_bytes) == ("ab" * 32, 1234)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("digit", "Did you mean 'digits'?"), ("zzz", "Known: cifar10"), ("mine-2", "'mine'"), ("\0", "Known")],
)
def test_an_unknown_dataset_is_not_found_and_the_nearest_is_named(db, store, images, name, hint):
    datasets.add(db, store, "mine", images)
    with pytest.raises(NotFound) as caught:
        datasets.get(db, name)
    assert hint in caught.value.detail


def test_an_upload_is_stored_as_one_checked_file(db, store, images):
    record = datasets.add(db, store, "mine", images)
    assert datasets.get(db, "mine") == datasets.get(db, record.id) == record
    assert (record.builtin, record.description) == (False, images.description)
    path = store.verify(record.sha256)
    assert path.stat().st_size == record.size_bytes
    assert np.array_equal(dataset_file.read(path).train.x, images.train.x)


@pytest.mark.parametrize(
    "name",
    ["", "Mine", "-mine", "a b", "a/b", "../a", "x" * 65, "mine\n", "é", "ds_01jd8zq4m3v6x9n2k5t7w0y1ab"],
)
def test_an_upload_with_a_bad_name_is_refused(db, store, images, name):
    with pytest.raises(InvalidInput) as caught:
        datasets.add(db, store, name, images)
    assert caught.value.pointer == "/name"


@pytest.mark.parametrize("name", ["digits", "mine"])
def test_a_taken_name_is_refused(db, store, images, name):
    datasets.add(db, store, "mine", images)
    with pytest.raises(Conflict, match="choose another"):
        datasets.check_name(db, name)
    with pytest.raises(Conflict, match="choose another"):
        datasets.add(db, store, name, images)


def test_of_uploads_with_one_name_at_the_same_moment_one_wins(db, store, images):
    def add(_):
        try:
            return datasets.add(db, store, "mine", images)
        except Conflict as problem:
            return problem

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(add, range(4)))
    assert sum(isinstance(result, datasets.DatasetRecord) for result in results) == 1


def test_an_upload_can_be_tied_to_an_idempotency_key(db, store, images):
    fingerprint = idempotency.fingerprint("body")
    claim = idempotency.begin(db, "key", "POST /datasets", fingerprint)
    record = datasets.add(db, store, "mine", images, idempotency=claim)
    idempotency.complete(db, claim, 201, record.id)
    assert idempotency.begin(db, "key", "POST /datasets", fingerprint).body == record.id


def test_who_lost_the_idempotency_key_adds_nothing(db, store, images):
    claim = idempotency.begin(db, "key", "POST /datasets", "print")
    idempotency.abandon(db, claim)
    with pytest.raises(Conflict):
        datasets.add(db, store, "mine", images, idempotency=claim)
    datasets.check_name(db, "mine")


def test_the_list_has_uploads_newest_first_and_then_the_builtin_ones(db, store, images):
    for name in ("one", "two"):
        datasets.add(db, store, name, images)
    names = [record.name for record in datasets.page(db).data]
    assert names[:2] == ["two", "one"]
    assert sorted(names[2:]) == sorted(BUILTIN)
    first = datasets.page(db, limit=3)
    rest = datasets.page(db, after=first.data[-1].id)
    assert [record.name for record in first.data + rest.data] == names
    with pytest.raises(InvalidInput):
        datasets.page(db, after="ds_none")


def test_a_page_follows_a_dataset_that_was_deleted_meanwhile(db, store, images):
    one, two, three = (datasets.add(db, store, name, images) for name in ("one", "two", "three"))
    datasets.delete(db, store, "two")
    after = [record.name for record in datasets.page(db, after=two.id).data]
    assert after[0] == one.name
    assert sorted(after[1:]) == sorted(BUILTIN)
    assert datasets.page(db, after=two.id, order="asc").data == (three,)


def test_a_deleted_upload_is_gone_and_its_name_is_free(db, store, images):
    record = datasets.add(db, store, "mine", images)
    datasets.delete(db, store, record.id)
    with pytest.raises(NotFound):
        datasets.get(db, "mine")
    datasets.add(db, store, "mine", images)


def test_a_builtin_dataset_cannot_be_deleted(db, store):
    with pytest.raises(Conflict, match="built in"):
        datasets.delete(db, store, datasets.get(db, "digits").id)


def test_a_dataset_that_a_job_needs_cannot_be_deleted(db, store, images, job_spec):
    record = datasets.add(db, store, "mine", images)
    job = jobs.create(db, job_spec(dataset="mine"), record, max_attempts=1)
    with pytest.raises(Conflict, match=job.id):
        datasets.delete(db, store, "mine")
    jobs.cancel(db, job.id)
    datasets.delete(db, store, "mine")
    assert job_queries.get(db, job.id).dataset_name == "mine"


def test_a_job_on_a_dataset_that_was_just_deleted_is_refused(db, store, images, job_spec):
    record = datasets.add(db, store, "mine", images)
    old = jobs.cancel(db, jobs.create(db, job_spec(dataset="mine"), record, max_attempts=1).id)
    datasets.delete(db, store, "mine")
    with pytest.raises(NotFound, match="deleted"):
        jobs.create(db, job_spec(dataset="mine"), record, max_attempts=1)
    with pytest.raises(NotFound, match="deleted"):
        jobs.retry(db, old.id)


def test_deleting_a_dataset_and_using_it_at_the_same_moment_never_both_work(db, store, images, job_spec):
    def outcome(call):
        try:
            call()
        except (Conflict, NotFound):
            return False
        return True

    for number in range(8):
        record = datasets.add(db, store, f"mine{number}", images)
        spec = job_spec(dataset=record.name)
        with ThreadPoolExecutor(2) as threads:
            deleted = threads.submit(outcome, lambda r=record: datasets.delete(db, store, r.id))
            used = threads.submit(outcome, lambda r=record, s=spec: jobs.create(db, s, r, max_attempts=1))
        assert deleted.result() != used.result()
