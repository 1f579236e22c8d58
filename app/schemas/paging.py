"""Lists, and what is left of something deleted."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from workers.paging import Order, unknown_cursor

T = TypeVar("T", bound=BaseModel)


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Listed(Answer, Generic[T]):
    """A page of a list. Ask for the next one with `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: tuple[T, ...]
    has_more: bool = Field(description="Whether another page follows.")
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, items: Iterable[T], ids: Iterable[str], has_more: bool = False) -> Self:
        names = [*ids]
        first, last = (names[0], names[-1]) if names else (None, None)
        return cls(data=tuple(items), has_more=has_more, first_id=first, last_id=last)

    @classmethod
    def part(
        cls, items: Sequence[T], name: Callable[[T], str], *, limit: int, after: str | None, order: Order
    ) -> Self:
        """A page of a short list that is here as a whole, newest first. Raises InvalidInput for a strange `after`."""
        wanted = list(items if order == "desc" else reversed(items))
        names = [name(item) for item in wanted]
        if after is not None and after not in names:
            raise unknown_cursor(after)
        start = 0 if after is None else names.index(after) + 1
        page = slice(start, start + limit)
        return cls.of(wanted[page], names[page], len(wanted) > start + limit)
