"""The database: SQLite on one machine, PostgreSQL for more than one."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from models.errors import InvalidInput, Unavailable
from workers import migrations
from workers.tables import Base

BUSY_TIMEOUT_S = 10
POOL_SIZE = 8
MOST_CONNECTIONS = 32
READ_ONLY = "tandem_read_only"
# A server whose machine is gone says nothing; the kernel's own patience is 15 minutes and more.
GIVE_UP_ON_SILENCE = {
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

Dialect = Literal["sqlite", "postgresql"]


class Database:
    """Sessions on one database; safe to share between threads, not across a fork.

    `url` is SQLAlchemy's: `sqlite:////absolute/path.db` or `postgresql://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._url = make_url(url)
        self.dialect = _dialect(self._url.get_backend_name())
        self._engine = self._sqlite() if self.dialect == "sqlite" else self._postgresql()
        self._reader = self._engine.execution_options(**{READ_ONLY: True})

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self._url.database or "") if self.dialect == "sqlite" else None

    @property
    def connection_string(self) -> str:
        """What PostgreSQL's own library connects with."""
        return self._url.set(drivername="postgresql").render_as_string(hide_password=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction that may write: committed at the end, rolled back on an exception.

        On SQLite it holds the only write lock from its start, so keep it short.
        Raises Unavailable when the database cannot be reached or stays locked.
        """
        with self._session(self._engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads. Raises Unavailable when the database cannot be reached."""
        with self._session(self._reader) as session:
            yield session

    def ping(self) -> None:
        """Raises Unavailable unless the database answers."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def ready(self) -> None:
        """Raises Unavailable unless the database answers and has the tables that this version needs."""
        with self.reading() as session:
            found = migrations.revision(session.connection())
        if found != migrations.head():
            raise Unavailable(
                f"the database is at revision {found or 'none'}, but this version needs {migrations.head()}:"
                " start the API, it migrates."
            )

    def migrate(self) -> None:
        """Bring the tables up to date, from nothing if need be. Safe when several processes start at once."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        migrations.upgrade(self._engine, self.path)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (OperationalError, InterfaceError, PoolTimeout) as problem:
            raise Unavailable("the database does not answer; try again shortly.") from problem

    def _sqlite(self) -> Engine:
        if not self._url.database or self._url.database == ":memory:":
            raise InvalidInput("an SQLite database needs a file: sqlite:////absolute/path.db")
        engine = create_engine(
            self._url,
            connect_args={"timeout": BUSY_TIMEOUT_S},
            pool_size=POOL_SIZE,
            max_overflow=MOST_CONNECTIONS - POOL_SIZE,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self) -> Engine:
        return create_engine(
            self._url.set(drivername="postgresql+psycopg"),
            pool_size=POOL_SIZE,
            max_overflow=MOST_CONNECTIONS - POOL_SIZE,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "application_name": "tandem", **GIVE_UP_ON_SILENCE},
        )


def upsert(session: Session, table: type[Base]) -> Any:
    """This database's INSERT of a row, the one that has `on_conflict_do_...`."""
    # By name: the other database's dialect need not be imported, which every start would wait for.
    build = import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}").insert
    return build(table)


def _dialect(backend: str) -> Dialect:
    match backend:
        case "sqlite" | "postgresql":
            return backend
    raise InvalidInput(f"no support for {backend!r} databases; use sqlite or postgresql.")


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late for a lock; _begin_sqlite begins them instead. Source:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes-with-the-sqlite3-or-aiosqlite-driver
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that started as a reader could fail in its middle with SQLITE_BUSY.
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
