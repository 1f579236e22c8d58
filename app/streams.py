"""How many live streams this process keeps open: each one asks the database several times a second."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import Unavailable


class Streams:
    """Places for streams; used on the event loop only."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one stream, given back at the end."""
        self.check()
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def check(self) -> None:
        """Raises Unavailable when all places are taken."""
        if self.open >= self.most:
            raise Unavailable(
                f"All {self.most} places for live streams are taken. Ask for the events as JSON, or come back later.",
                code="too_many_streams",
            )
