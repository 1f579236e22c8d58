"""Migrations, transactions and readiness, on both databases."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, text, update

from models.errors import InvalidInput, Unavailable
from workers import job_queries, migrations
from workers.database import Database
from workers.migrations import running
from workers.tables import AliasRow, Base, JobRow, VersionRow, WorkerRow

MIGRATE_WHEN_TOLD = """
import sys
from workers import migrations
from workers.database import Database
migrations.head()
print("ready", flush=True)
sys.stdin.readline()
Database(sys.argv[1]).migrate()
"""

VERSION = {
    "spec": {"architecture": "mlp"},
    "signature": {},
    "metrics": {},
    "dataset_id": "ds_1",
    "dataset_name": "digits",
    "sha256": "00",
    "size_bytes": 1,
    "parameters": 1,
    "created_at": 0.0,
}


@pytest.fixture
def empty(empty_url):
    database = Database(empty_url)
    yield database
    database.close()


def add_counter(session):
    values = {"pid": 0, "slots": 1, "started_at": 0.0, "last_seen_at": 0.0}
    session.add(WorkerRow(id="counter", host="h", framework="torch", device="cpu", jobs=[], **values))


def test_migrating_makes_exactly_the_tables_that_the_program_declares(empty):
    empty.migrate()
    with empty.reading() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_changes_nothing(empty):
    empty.migrate()
    empty.migrate()
    empty.ready()


def test_models_and_aliases_of_an_older_database_stay(empty, empty_url):
    _make_tables_of("0001", empty, empty_url)
    with empty.session() as session:
        session.execute(text("INSERT INTO models VALUES ('net', 'mdl_1', 1, 0.0)"))
        given = {"name": "net", "version": 1, "job_id": "job_1", "framework": "jax", **VERSION}
        # Only what that version knew.
        session.execute(insert(VersionRow.__table__).values(**given))
        session.add(AliasRow(name="net", alias="champion", version=1))
    empty.migrate()
    empty.ready()
    with empty.session() as session:
        assert session.get(VersionRow, ("net", 1)).framework == "jax"
        assert session.get(AliasRow, ("net", "champion")).version == 1
        session.add(VersionRow(name="net", version=2, **VERSION | {"dataset_id": None, "dataset_name": None}))
        session.flush()
        session.delete(session.get(VersionRow, ("net", 1)))
    with empty.reading() as session:
        # The alias still goes with its version: foreign keys are enforced as before.
        assert session.get(AliasRow, ("net", "champion")) is None


def test_jobs_of_an_older_database_are_trainings(empty, empty_url):
    _make_tables_of("0003", empty, empty_url)
    known = {
        "spec": {},
        "dataset_id": "ds_1",
        "dataset_name": "digits",
        "job_metadata": {},
        "created_at": 0.0,
    }
    with empty.session() as session:
        given = {"id": "job_1", "name": "net", "framework": "jax", "status": "failed", "max_attempts": 1}
        session.execute(insert(JobRow).values(**given, **known))
    empty.migrate()
    assert job_queries.get(empty, "job_1", "training").kind == "training"
    assert [job.id for job in job_queries.page(empty).data] == ["job_1"]


def _make_tables_of(revision, database, url):
    if database.path is not None:
        database.path.parent.mkdir()
    engine = create_engine(url)
    config = running.configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_the_newest_migration_is_the_one_that_alembic_takes_for_it():
    assert migrations.head() == ScriptDirectory.from_config(running.configuration()).get_current_head()


def test_a_database_that_is_up_to_date_is_opened_without_alembic(empty, empty_url):
    empty.migrate()
    command = (
        "import sys; from workers.database import Database; Database(sys.argv[1]).migrate();"
        " Database(sys.argv[1]).ready(); print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, empty_url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_processes_that_start_together_may_all_migrate(empty, empty_url):
    command = [sys.executable, "-c", MIGRATE_WHEN_TOLD, empty_url]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for starter in starters:
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    for starter in starters:
        starter.communicate()
    assert [starter.returncode for starter in starters] == [0, 0]
    empty.ready()


def test_a_database_without_tables_answers_but_is_not_ready(empty):
    if empty.path is not None:
        empty.path.parent.mkdir()
    empty.ping()
    with pytest.raises(Unavailable, match="revision none"):
        empty.ready()


def test_a_migrated_database_is_ready(db):
    db.ping()
    db.ready()


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/none/tandem.db"])
def test_a_database_that_cannot_be_reached_is_unavailable(url):
    with pytest.raises(Unavailable):
        Database(url).ping()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/tandem"])
def test_a_database_that_cannot_work_is_refused(url):
    with pytest.raises(InvalidInput):
        Database(url)


def test_an_exception_undoes_the_transaction(db):
    with pytest.raises(KeyError), db.session() as session:
        add_counter(session)
        session.flush()
        raise KeyError
    with db.reading() as session:
        assert session.get(WorkerRow, "counter") is None


def test_sqlite_is_durable_and_keeps_readers_apart_from_the_writer(tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'tandem.db'}")
    db.migrate()
    with db.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    db.close()


def test_a_reader_does_not_wait_for_a_writer(db):
    with db.session() as writer:
        add_counter(writer)
        writer.flush()
        with db.reading() as reader:
            assert reader.get(WorkerRow, "counter") is None


def test_many_threads_write_without_losing_an_update(db):
    with db.session() as session:
        add_counter(session)

    def count(_):
        with db.session() as session:
            session.execute(update(WorkerRow).values(pid=WorkerRow.pid + 1))

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(count, range(120)))
    with db.reading() as session:
        assert session.get_one(WorkerRow, "counter").pid == 120


def test_a_transaction_that_reads_then_writes_is_alone_on_sqlite(tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'tandem.db'}")
    db.migrate()
    with db.session() as session:
        add_counter(session)
    together = threading.Barrier(8)

    def read_then_write(_):
        together.wait()
        with db.session() as session:
            row = session.get_one(WorkerRow, "counter")
            row.pid += 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read_then_write, range(8)))
    with db.reading() as session:
        assert session.get_one(WorkerRow, "counter").pid == 8
    db.close()


WRITE_FOR_EVER = """
import sys
from sqlalchemy import text
from workers.database import Database
db = Database(sys.argv[1])
number = 0
while True:
    number += 1
    with db.session() as session:
        session.execute(text("UPDATE workers SET pid = :n"), {"n": number})
        session.execute(text("UPDATE workers SET slots = :n"), {"n": number})
    print(number, flush=True)
"""


def test_what_was_committed_survives_a_kill_and_what_was_not_is_undone(db, tmp_path):
    with db.session() as session:
        add_counter(session)
    url = db.url
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, url], stdout=subprocess.PIPE, text=True)
    with writer:
        said = [int(writer.stdout.readline()) for _ in range(30)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(line) for line in writer.stdout if line.endswith("\n")]
    with db.reading() as session:
        row = session.get_one(WorkerRow, "counter")
        assert row.pid == row.slots >= said[-1]
