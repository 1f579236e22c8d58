"""Request bodies into typed values: read, checked as strict JSON, validated, explained where they are wrong."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app import strict_json
from app.errors import InvalidFields
from app.hints import explain
from models.errors import UnsupportedMedia

B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")
SMALL_BYTES = 64 * 1024
MOST_PROBLEMS = 50


def body(model: type[B]) -> Callable[[Request], Awaitable[B]]:
    """A dependency that gives the request's JSON body as this model.

    FastAPI's own body parameters take NaN for a number and know no nearest names, so they are not used.
    """

    async def parsed(request: Request) -> B:
        require_json(request)
        return await off_the_loop_if_large(partial(parse, model), await request.body())

    return parsed


async def off_the_loop_if_large(parse: Callable[[bytes], T], text: bytes) -> T:
    """Parse a large body in a thread, and a small one here: handing it over would take longer than parsing it."""
    return parse(text) if len(text) <= SMALL_BYTES else await run_sync(parse, text)


def parse(model: type[B], text: bytes) -> B:
    """Raises Malformed or InvalidInput."""
    strict_json.loads(text)
    strict_json.refuse_duplicates(text)
    try:
        # From the text, not from the value: strict models take a JSON list for a tuple, but not a Python list.
        return model.model_validate_json(text)
    except ValidationError as error:
        raise invalid(model, error) from None


def validate(model: type[B], value: Mapping[str, Any]) -> B:
    """The same for a value that was parsed before, or comes from a form. Raises InvalidInput."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(model, error) from None


def invalid(model: type[BaseModel], error: ValidationError) -> InvalidFields:
    found = error.errors(include_url=False)
    return InvalidFields(explain(found[: 4 * MOST_PROBLEMS], _schema(model))[:MOST_PROBLEMS])


@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema(by_alias=True)


def media_type(request: Request) -> str:
    """The Content-Type without its parameters; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_plain(request: Request) -> None:
    """Raises UnsupportedMedia when the body is declared as compressed: the limits count what comes, not what it
    would become."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(
            f"Bodies in {encoding[:80]!r} are not taken here. Send the body as it is, without Content-Encoding.",
            pointer="/headers/content-encoding",
        )


def require_json(request: Request) -> None:
    """Raises UnsupportedMedia unless the body is plain and declared as JSON, or not declared at all."""
    require_plain(request)
    declared = media_type(request)
    if declared and declared != "application/json" and not declared.endswith("+json"):
        raise UnsupportedMedia(
            f"{declared[:80]!r} is not taken here. Send JSON with 'Content-Type: application/json'.",
            pointer="/headers/content-type",
        )
