"""Watches: what others do to models is seen at once, on both databases."""

import time

import pytest
from sqlalchemy import text

from workers import jobs, registry
from workers.database import Database
from workers.postgresql_watch import PostgreSQLWatch
from workers.watch import announce, watch


@pytest.fixture
def watching(db):
    found = watch(db)
    calm(found)
    yield found
    found.close()


@pytest.fixture
def register(db, claimed, model):
    def make():
        claim = claimed(name="net")
        return jobs.finish(db, claim.job.id, claim.fence, model())

    return make


def calm(watching):
    """Wait until it listens, and has said what it must say first."""
    deadline = time.monotonic() + 5
    while watching.changed():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def seen(watching):
    """Within a moment: a notification comes as soon as the transaction has ended, not before its caller goes on."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if watching.changed():
            return True
        time.sleep(0.005)
    return False


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
        calm(watching)


def test_a_change_that_is_undone_is_none(db, watching):
    with pytest.raises(RuntimeError), db.session() as session:
        announce(session)
        raise RuntimeError
    assert not seen_now(watching)


def test_a_lost_connection_counts_as_a_change_until_it_is_back(cluster):
    db = cluster.migrated()
    found = watch(db)
    calm(found)
    with db.session() as session:
        session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        )
    assert seen(found)
    calm(found)
    with db.session() as session:
        announce(session)
    assert seen(found)
    found.close()
    db.close()


def test_whatever_ends_its_connection_a_watch_hears_of_changes_again(cluster):
    url = cluster.empty()
    db = Database(url)
    with db.session() as session:
        name = session.scalar(text("SELECT current_database()"))
        session.execute(text(f"ALTER DATABASE {name} SET client_encoding = 'SQL_ASCII'"))
    found = PostgreSQLWatch(db, "channel")
    calm(found)
    with db.session() as session:
        session.execute(
            text("NOTIFY channel, 'ç'")
        )  # which ASCII cannot say: psycopg fails as with nothing else
    assert seen(found)
    calm(found)
    with db.session() as session:
        session.execute(text("NOTIFY channel"))
    assert seen(found)
    found.close()
    db.close()
