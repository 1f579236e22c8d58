"""The parameters of addresses: none that an operation does not know, and none twice."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request

from app.errors import InvalidFields
from app.strict_json import escaped
from models.errors import FieldProblem, suggest

LONGEST_ECHO = 80


async def check(request: Request) -> None:
    """A dependency of every operation but those whose clients send what they like. Raises InvalidInput."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    known = documented(request, "query")["properties"]
    if problems := (*_unknown(given, known), *_repeated(given, known)):
        raise InvalidFields(problems)


def documented(request: Request, place: str) -> dict[str, Any]:
    """The operation's parameters in this place as the schema of one object."""
    document = request.app.openapi()
    operation = document["paths"].get(request.scope["route"].path, {}).get(request.method.lower(), {})
    parameters = [one for one in operation.get("parameters", ()) if one["in"] == place]
    return {"properties": {one["name"]: one["schema"] for one in parameters}, **document}


def _unknown(given: Counter[str], known: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for name in (name for name in given if name not in known):
        short = name[:LONGEST_ECHO]
        hint = suggest(short, known) if known else "The address takes no parameters."
        yield FieldProblem(f"/{escaped(short)}", "unknown_field", f"Unknown field {short!r}. {hint}")


def _repeated(given: Counter[str], known: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """One of the values would be lost in silence."""
    for name in (name for name in known if given[name] > 1):
        how = "with commas between its values" if known[name].get("type") == "array" else "once"
        yield FieldProblem(
            f"/{name}", "duplicate_field", f"The field {name!r} is given twice. Give it {how}."
        )
