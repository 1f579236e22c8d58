"""Items that are objects."""

from collections.abc import Iterable

from models.errors import InvalidInput, suggest


def check_only(known: str, item: Iterable[object], pointer: str) -> None:
    """Raise InvalidInput, with the pointer to it, for a field of the item that is not the known one."""
    name = next((str(name) for name in item if name != known), None)
    if name is not None:
        raise InvalidInput(
            f"Unknown field {name[:100]!r} in an input. {suggest(name[:100], [known])}",
            pointer=f"{pointer}/{escaped(name[:100])}",
            code="unknown_field",
        )


def escaped(name: str) -> str:
    """A name as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
