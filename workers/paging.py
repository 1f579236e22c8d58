"""Pages of a list, in the order of a sortable identifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.errors import InvalidInput
from workers.identifiers import is_id

T = TypeVar("T")
Row = TypeVar("Row")
Order = Literal["desc", "asc"]
LARGEST_PAGE = 200


@dataclass(frozen=True)
class Page(Generic[T]):
    """`has_more`: another page follows after the last of `data`."""

    data: tuple[T, ...]
    has_more: bool

    def map(self, change: Callable[[T], Any]) -> "Page[Any]":
        return Page(tuple(change(item) for item in self.data), self.has_more)


def page_of(
    session: Session,
    query: Select[Row],
    key: InstrumentedAttribute[str],
    *,
    limit: int,
    after: str | None,
    order: Order,
) -> Page[Row]:
    """The rows of `query` that follow the row whose `key` is `after`, or was; `desc` is newest first.

    Raises InvalidInput when `limit` is out of bounds. Whether `after` belongs to the list is the caller's to check.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidInput(f"limit is {limit}; use 1 to {LARGEST_PAGE}.", pointer="/limit")
    if after is not None:
        query = query.where(key < after if order == "desc" else key > after)
    query = query.order_by(key.desc() if order == "desc" else key.asc()).limit(limit + 1)
    rows = session.scalars(query).all()
    return Page(tuple(rows[:limit]), len(rows) > limit)


def check_cursor(after: str | None, prefix: str) -> None:
    """Raise InvalidInput unless this may be an id of the list: what it named may have been deleted since."""
    if after is not None and not is_id(prefix, after):
        raise unknown_cursor(after)


def unknown_cursor(after: str) -> InvalidInput:
    return InvalidInput(
        f"'after' names {after!r}, which is not in this list; take it from the last page's last_id.",
        pointer="/after",
    )
