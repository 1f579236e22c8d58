"""Names every request, in the answer and in every line of the log."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from workers.identifiers import new_id

HEADER = "X-Request-Id"
_USABLE = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)


class RequestId:
    """Takes `X-Request-Id` from the request if it is usable, else makes one; `scope["state"]["request_id"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if is_usable(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self.app(scope, receive, send_named)


def is_usable(request_id: str) -> bool:
    """Whether an id that a client sent can be used as it is."""
    return _USABLE.fullmatch(request_id) is not None
