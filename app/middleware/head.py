"""HEAD wherever there is GET: the same answer without its body (RFC 9110, 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Asks the application for what GET would get, and leaves it once the headers are known: no file is read and no
    stream is begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET", "headers": _without_range(scope)}

        async def send_headers(message: Message) -> None:
            await send(message)
            await send({"type": "http.response.body"})
            raise _Enough

        try:
            await self.app(asked, receive, send_headers)
        except _Enough:
            pass
        finally:
            scope["route"] = asked.get("route")  # for those outside, who count requests by it


class _Enough(Exception):
    """The headers are sent."""


def _without_range(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Ranges are defined for GET alone (RFC 9110, 14.2)."""
    return [(name, value) for name, value in scope["headers"] if name != b"range"]
