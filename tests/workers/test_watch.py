"""Watches: what others do to models is seen at once, on both databases."""

import time

import pytest

from workers import jobs, registry
from workers.watch import watch


@pytest.fixture
def watching(db):
    found = watch(db)
    deadline = time.monotonic() + 5
    while found.changed():  # until it listens, and has said what it must say first
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield found
    found.close()


@pytest.fixture
def register(db, claimed, model):
    def make():
        claim = claimed(name="net")
        return jobs.finish(db, claim.job.id, claim.fence, model())

    return make


def seen(watching):
    """Within a moment: a notification comes as soon as the transaction has ended, not before its caller goes on."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if watching.changed():
            return True
        time.sleep(0.005)
    return False


def settle(watching):
    while seen_now(watching):
        pass


def seen_now(watching):
    time.sleep(0.05)
    return watching.changed()


def test_a_watch_begins_with_a_change(db):
    found = watch(db)
    assert found.changed()
    found.close()


def test_every_change_to_models_is_seen_once(db, store, register, watching):
    for change in (
        register,
        register,
        lambda: registry.set_alias(db, "net", "champion", 1),
        lambda: registry.delete_alias(db, "net", "champion"),
        lambda: registry.delete_version(db, store, "net", 2),
        lambda: registry.delete_model(db, store, "net"),
    ):
        change()
        assert seen(watching)
        settle(watching)
        assert not watching.changed()


def test_a_change_that_is_undone_is_none(db, watching):
    from workers.watch import announce

    with pytest.raises(RuntimeError), db.session() as session:
        announce(session)
        raise RuntimeError
    assert not seen_now(watching)


def test_a_lost_connection_counts_as_a_change_until_it_is_back(db, cluster, register):
    if db.dialect == "sqlite":
        pytest.skip("SQLite has no connection to lose")
    from sqlalchemy import text

    found = watch(db)
    while found.changed():
        time.sleep(0.01)
    with db.session() as session:
        session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        )
    assert seen(found)
    deadline = time.monotonic() + 5
    while found.changed():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    register()
    assert seen(found)
    found.close()
