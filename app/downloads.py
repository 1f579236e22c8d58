"""Files as answers: their hash as ETag, ranges, and what the OpenAPI document says of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fastapi import Header
from fastapi.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from app.errors import RangeNotSatisfiable
from app.openapi import Responses

IfNoneMatch = Annotated[
    str | None, Header(description="The ETag that you have.", examples=['"9f86d081884c7d65"'])
]


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


def download(path: Path, sha256: str, if_none_match: str | None, media_type: str, filename: str) -> Response:
    """The file, or 304 to who has it."""
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, no-cache"}
    if if_none_match is not None and _matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Download(path, headers=headers, media_type=media_type, filename=filename)


class Download(FileResponse):
    """A file whose refused ranges become problem documents too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_refuse(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                raise RangeNotSatisfiable("The file has no such range of bytes.", pointer="/headers/range")
            await send(message)

        await super().__call__(scope, receive, send_or_refuse)


def _matches(if_none_match: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags
