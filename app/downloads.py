"""Files as answers: their hash as ETag, ranges, and what the OpenAPI document says of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Header
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from app.errors import PreconditionFailed, RangeNotSatisfiable
from app.openapi import Responses

ETAG = '"9f86d081884c7d65"'


@dataclass(frozen=True)
class Conditions:
    """Which file is wanted, by its ETag (RFC 9110, 13.1)."""

    if_match: str | None
    if_none_match: str | None


def conditions(
    if_match: Annotated[
        str | None, Header(description="The ETag of the only file that you want.", examples=[ETAG])
    ] = None,
    if_none_match: Annotated[
        str | None, Header(description="The ETag that you have.", examples=[ETAG])
    ] = None,
) -> Conditions:
    return Conditions(if_match, if_none_match)


Wanted = Annotated[Conditions, Depends(conditions)]


def file_answers(media_types: Mapping[str, str]) -> Responses:
    """The answers of an operation that sends a file, of one of these media types; each with what the file holds."""
    content = {
        kind: {"schema": {"type": "string", "format": "binary"}, "example": "<bytes of the file>"}
        for kind in media_types
    }
    return {
        200: {"description": " ".join(media_types.values()), "content": content},
        206: {"description": "The range that was asked for."},
        304: {"description": "You have it already."},
    }


def download(path: Path, sha256: str, wanted: Conditions, media_type: str, filename: str) -> Response:
    """The file, or 304 to who has it. Raises PreconditionFailed when another one is wanted."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if wanted.if_match is not None and _tags(wanted.if_match).isdisjoint(("*", etag)):
        raise PreconditionFailed(
            f"The file is another one now: its ETag is {etag}.", pointer="/headers/if-match"
        )
    if wanted.if_none_match is not None and _is_known(wanted.if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Download(path, headers=headers, media_type=media_type, filename=filename)


class Download(FileResponse):
    """A file whose refused ranges become problem documents too. Units that it does not know are left out, as RFC 9110
    (14.2) says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_refuse(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                raise RangeNotSatisfiable(
                    "The file has no such range of bytes.", size=int(self.headers["content-length"])
                )
            await send(message)

        if not Headers(scope=scope).get("range", "").lower().startswith("bytes="):
            scope = {**scope, "headers": [one for one in scope["headers"] if one[0] != b"range"]}
        await super().__call__(scope, receive, send_or_refuse)


def _tags(listed: str) -> set[str]:
    return {tag.strip() for tag in listed.split(",")}


def _is_known(if_none_match: str, etag: str) -> bool:
    """A weak tag does here; `If-Match` takes none (RFC 9110, 13.1.1)."""
    return not {tag.removeprefix("W/") for tag in _tags(if_none_match)}.isdisjoint(("*", etag))
