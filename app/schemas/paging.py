"""Lists, and what is left of something deleted."""

from collections.abc import Iterable
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

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
