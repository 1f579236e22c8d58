"""What all tables share. Times are seconds since the epoch by the database's clock."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Double, MetaData, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """The text without what a database cannot hold: NUL (PostgreSQL) and lone surrogates (both)."""
    return text.encode(errors="surrogatepass").decode(errors="replace").replace("\0", REPLACEMENT)


class PlainText(TypeDecorator[str]):
    """Text that can always be stored and looked up, whatever a client sent as a name."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else plain(value)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: PlainText,
        int: BigInteger,
        float: Double,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }
