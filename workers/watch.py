"""Whether registered models may have changed since one last looked: what was read before may be kept until then.

SQLite counts the commits of others in a page that every connection has mapped; asking takes some microseconds.
PostgreSQL tells those who listen as soon as a transaction that announced it has committed.
"""

import sqlite3
import threading
from typing import Protocol

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from sqlalchemy.orm import Session

from workers.database import GIVE_UP_ON_SILENCE, Database

CHANNEL = "tandem_models"
LISTEN_S = 0.5
"""How soon a watch that is closed notices, and how long it waits after a lost connection."""

log = structlog.get_logger("workers.watch")


class Watch(Protocol):
    """Used by one thread."""

    def changed(self) -> bool:
        """Whether models or aliases may have changed since the last call; true at the first, and whenever it cannot
        be told."""
        ...

    def close(self) -> None: ...


def watch(db: Database) -> Watch:
    """A watch on this database, which must have its tables."""
    return SQLiteWatch(db) if db.dialect == "sqlite" else PostgreSQLWatch(db)


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


class PostgreSQLWatch:
    """By notifications, which a thread of its own listens to. While there is no connection, everything has changed."""

    def __init__(self, db: Database) -> None:
        self._url = make_conninfo(db.connection_string, connect_timeout=5, **GIVE_UP_ON_SILENCE)
        self._changed = True
        self._listening = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="model-watch", daemon=True)
        self._thread.start()

    def changed(self) -> bool:
        if not self._listening:
            return True
        changed, self._changed = self._changed, False
        return changed

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except psycopg.Error as error:
                log.warning("watch_lost_its_connection", error=str(error).strip())
            self._listening = False
            self._closed.wait(LISTEN_S)

    def _follow(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._changed = self._listening = True
            while not self._closed.is_set():
                for _ in connection.notifies(timeout=LISTEN_S, stop_after=1):
                    self._changed = True
