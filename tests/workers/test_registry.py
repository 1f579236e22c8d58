"""Registered models: versions, aliases, references, deletion."""

import hashlib

import pytest

from models.errors import InvalidInput, NotFound
from workers import jobs, registry


@pytest.fixture
def register(db, store, tmp_path, claimed, model):
    """Finish a job whose weights are in the store; the version it makes."""

    def make(name="net", content=b"weights", **fields):
        source = tmp_path / "weights"
        source.write_bytes(content)
        store.put(source)
        claim = claimed(name=name)
        return jobs.finish(db, claim.job.id, claim.fence, model(content, **fields))

    return make


def age(store, content):
    """As if the file had been stored long ago."""
    import os

    os.utime(store.path(hashlib.sha256(content).hexdigest()), (0, 0))


def test_a_version_tells_all_that_is_needed_to_serve_it(db, register, claimed):
    version = register()
    found = registry.version(db, "net", 1)
    assert found == version
    assert (found.framework, found.architecture, found.task) == ("torch", "mlp", "image-classification")
    assert (found.classes, found.dataset_name, found.parameters) == (("a", "b"), "digits", 10)
    assert found.spec["hidden"]
    assert found.signature.outputs == 2
    assert found.metrics == {"test_accuracy": 0.9}


def test_every_success_under_a_name_makes_the_next_version(db, register):
    assert [register().version, register().version, register(name="other").version] == [1, 2, 1]
    assert [one.version for one in registry.get(db, "net").versions] == [2, 1]


def test_a_bare_name_means_the_newest_version_until_there_is_a_champion(db, register):
    register(), register(), register()
    assert registry.resolve(db, "net").version == registry.resolve(db, "net@champion").version == 3
    registry.set_alias(db, "net", "champion", 2)
    assert registry.resolve(db, "net").version == registry.resolve(db, "net@champion").version == 2
    assert registry.get(db, "net").champion.version == 2


def test_a_reference_may_name_a_version_an_alias_or_a_job(db, register):
    first, second = register(), register()
    registry.set_alias(db, "net", "stable", 1)
    assert registry.resolve(db, "net@1").version == 1
    assert registry.resolve(db, "net@2") == second
    assert registry.resolve(db, "net@stable").version == 1
    assert registry.resolve(db, first.job_id).version == 1


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("nett", "Did you mean 'net'?"),
        ("net@9", "no version 9. Known: 1."),
        ("net@" + "9" * 5000, "no version"),
        ("net@stabel", "Did you mean 'stable'?"),
        ("net@", "no alias ''"),
        ("@1", "no model ''"),
        ("net@1@2", "no alias '1@2'"),
        ("job_none", "no job"),
        ("net\0", "no model"),
    ],
)
def test_an_unknown_reference_is_not_found_and_the_nearest_is_named(db, register, reference, hint):
    register()
    registry.set_alias(db, "net", "stable", 1)
    with pytest.raises(NotFound) as caught:
        registry.resolve(db, reference)
    assert hint in caught.value.detail


def test_a_job_that_has_no_model_yet_says_its_state(db, queued):
    with pytest.raises(NotFound, match="is queued"):
        registry.resolve(db, queued().id)


def test_an_alias_moves(db, register):
    register(), register()
    assert registry.set_alias(db, "net", "stable", 1).aliases == ("stable",)
    assert registry.set_alias(db, "net", "stable", 2).version == 2
    assert registry.get(db, "net").aliases == {"stable": 2}
    assert registry.version(db, "net", 1).aliases == ()


@pytest.mark.parametrize("alias", ["", "3", "A", "a@b", "x" * 65, "\0"])
def test_what_could_not_be_told_from_a_version_or_a_name_is_no_alias(db, register, alias):
    register()
    with pytest.raises(InvalidInput):
        registry.set_alias(db, "net", alias, 1)


@pytest.mark.parametrize(("name", "number"), [("net", 2), ("net", 10**30), ("net", -1), ("none", 1)])
def test_an_alias_needs_a_version_that_exists(db, register, name, number):
    register()
    with pytest.raises(NotFound):
        registry.set_alias(db, name, "stable", number)


def test_a_deleted_alias_is_gone(db, register):
    register()
    registry.set_alias(db, "net", "stable", 1)
    registry.delete_alias(db, "net", "stable")
    for missing in ("stable", "never"):
        with pytest.raises(NotFound, match="no alias"):
            registry.delete_alias(db, "net", missing)


def test_models_are_listed_newest_first_with_their_versions(db, register):
    for name in ("a", "b", "c", "a"):
        register(name=name)
    page = registry.page(db, limit=2)
    assert [model.name for model in page.data] == ["c", "b"]
    assert page.has_more
    (last,) = registry.page(db, after="b").data
    assert (last.name, [one.version for one in last.versions]) == ("a", [2, 1])
    with pytest.raises(InvalidInput):
        registry.page(db, after="none")


def test_deleting_a_version_takes_its_aliases_with_it_and_says_so(db, store, register):
    register(), register()
    registry.set_alias(db, "net", "champion", 2)
    registry.set_alias(db, "net", "stable", 1)
    assert registry.delete_version(db, store, "net", 2) == registry.Deleted((2,), ("champion",))
    assert registry.get(db, "net").aliases == {"stable": 1}
    assert registry.resolve(db, "net").version == 1


def test_a_deleted_versions_number_is_never_used_again(db, store, register):
    register(), register()
    registry.delete_version(db, store, "net", 2)
    assert register().version == 3
    registry.delete_model(db, store, "net")
    assert register().version == 4


def test_a_model_without_versions_is_no_longer_there(db, store, register):
    version = register()
    assert registry.delete_model(db, store, "net").versions == (1,)
    assert registry.page(db).data == ()
    with pytest.raises(NotFound):
        registry.get(db, "net")
    with pytest.raises(NotFound, match="deleted"):
        registry.resolve(db, version.job_id)
    with pytest.raises(NotFound):
        registry.delete_model(db, store, "net")


def test_deleting_what_is_not_there_is_not_found(db, store, register):
    register()
    for name, number in (("net", 2), ("none", 1), ("net", 10**30)):
        with pytest.raises(NotFound):
            registry.delete_version(db, store, name, number)


def test_weights_go_with_the_last_version_that_has_them(db, store, register):
    first, second, other = register(), register(), register(content=b"other")
    age(store, b"weights"), age(store, b"other")
    registry.delete_version(db, store, "net", first.version)
    assert store.exists(second.sha256)
    registry.delete_version(db, store, "net", second.version)
    assert not store.exists(second.sha256)
    registry.delete_model(db, store, "net")
    assert not store.exists(other.sha256)
