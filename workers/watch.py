"""Whether registered models may have changed since one last looked: what was read before may be kept until then.

SQLite counts the commits of others in a page that every connection has mapped; asking takes some microseconds.
PostgreSQL tells those who listen as soon as a transaction that announced it has committed.
"""

import sqlite3
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session

from workers.database import Database

CHANNEL = "tandem_models"


class Watch(Protocol):
    """Used by one thread."""

    def changed(self) -> bool:
        """Whether models or aliases may have changed since the last call; true at the first, and whenever it cannot
        be told."""
        ...

    def close(self) -> None: ...


def watch(db: Database) -> Watch:
    """A watch on this database, which must have its tables."""
    if db.dialect == "sqlite":
        return SQLiteWatch(db)
    from workers.postgresql_watch import PostgreSQLWatch

    return PostgreSQLWatch(db, CHANNEL)


def announce(session: Session) -> None:
    """Tell every watch, once this transaction has committed, that it has changed models or aliases."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"NOTIFY {CHANNEL}"))


class SQLiteWatch:
    """By the count of commits, whatever they changed. Source: https://www.sqlite.org/pragma.html#pragma_data_version"""

    def __init__(self, db: Database) -> None:
        assert db.path is not None
        self._cursor = sqlite3.connect(db.path, isolation_level=None, check_same_thread=False).cursor()
        self._seen: int | None = None

    def changed(self) -> bool:
        try:
            version = self._cursor.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return True
        before, self._seen = self._seen, version
        return bool(before != version)

    def close(self) -> None:
        self._cursor.connection.close()
