"""Alembic's migrations, packaged, and run by one process at a time.

A new one: change `workers/tables`, then `python -m workers.migrations "what changes"`.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from models.errors import Unavailable

POSTGRESQL_LOCK = 0x7A4DE3
"""An arbitrary number that only Tandem's migrations use as an advisory lock."""


@cache
def head() -> str:
    """The revision that this version's tables are at: the number of the newest migration."""
    versions = Path(__file__).with_name("versions").glob("[0-9]*.py")
    return max(path.name.partition("_")[0] for path in versions)


def revision(connection: Connection) -> str | None:
    """The revision of this database; None when it has no tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, sqlite_path: Path | None) -> None:
    """Run the migrations that this database lacks, in one transaction. Raises Unavailable."""
    try:
        if sqlite_path is None:
            _upgrade_postgresql(engine)
        else:
            with _file_lock(sqlite_path.with_name(sqlite_path.name + ".lock")):
                _write_ahead(engine)
                _upgrade_sqlite(engine)
    except OperationalError as problem:
        raise Unavailable("the database does not answer, so it cannot be migrated.") from problem


def _upgrade_sqlite(engine: Engine) -> None:
    """SQLite changes a column by making the table anew; were foreign keys enforced meanwhile, what refers to the old
    table would be deleted with it. Source: https://www.sqlite.org/lang_altertable.html#otheralter"""
    with engine.connect() as connection:
        raw = connection.connection.cursor()
        raw.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
        try:
            with connection.begin():
                _upgrade_over(connection)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                assert not broken, broken
        finally:
            raw.execute("PRAGMA foreign_keys=ON")
            raw.close()


def _upgrade_postgresql(engine: Engine) -> None:
    with engine.begin() as connection:
        # Held until the transaction ends, however it ends.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": POSTGRESQL_LOCK})
        _upgrade_over(connection)


def _upgrade_over(connection: Connection) -> None:
    if revision(connection) != head():
        from workers.migrations import running

        running.upgrade(connection)


def _write_ahead(engine: Engine) -> None:
    """Readers and the writer don't wait for each other. The mode stays with the file."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # SQLite's own lock does not cover the change to WAL: two processes that try at once get SQLITE_BUSY.
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
