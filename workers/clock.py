"""The database's clock. Leases are compared against it, so that hosts need not agree on the time."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801 - reads as SQL: now()
    """Seconds since the epoch when the statement runs, to the millisecond or better."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; 2440587.5 is the Julian day of 1970-01-01T00:00Z.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    # now() would be the start of the transaction, which may have waited for a lock since.
    return "extract(epoch from clock_timestamp())::double precision"


def moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def optional_moment(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else moment(epoch_s)
