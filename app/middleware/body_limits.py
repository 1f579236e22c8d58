"""Bodies may be only so large and only so slow."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import SlowBody
from models.errors import Malformed, TooLarge


@dataclass(frozen=True)
class Limits:
    """`uploads` are the paths that may take `max_upload_bytes`. A body may take `grace_s` and, on top, as long as
    its bytes need at `min_bytes_per_s`: a trickle ends soon, a large upload on a slow line does not."""

    max_body_bytes: int
    max_upload_bytes: int
    grace_s: float
    min_bytes_per_s: float
    uploads: frozenset[str] = field(default_factory=frozenset)

    def max_bytes(self, path: str) -> int:
        return self.max_upload_bytes if path.rstrip("/") in self.uploads else self.max_body_bytes


class BodyLimits:
    """Refuses a body that declares too much at once, and one that turns out too large or too slow as it comes."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        max_bytes = self.limits.max_bytes(scope["path"])
        if _declared(Headers(scope=scope)) > max_bytes:
            raise too_large(max_bytes)
        await self.app(scope, _Meter(receive, max_bytes, self.limits), send)


class _Meter:
    """A `receive` that counts and watches the clock until the body is complete."""

    def __init__(self, receive: Receive, max_bytes: int, limits: Limits) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._limits = limits
        self._received = 0
        self._waited_s = 0.0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        if self._received > self._max_bytes:
            raise too_large(self._max_bytes)
        return message

    async def _in_time(self) -> Message:
        """Only waiting counts: while we are busy with what came, the client is not to blame."""
        allowed_s = self._limits.grace_s + self._received / self._limits.min_bytes_per_s
        began = monotonic()
        try:
            async with asyncio.timeout(allowed_s - self._waited_s):
                return await self._receive()
        except TimeoutError:
            raise SlowBody(
                f"The body came too slowly: {self._received} bytes in {allowed_s:.0f} s. Send it again, faster."
            ) from None
        finally:
            self._waited_s += monotonic() - began


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is too large: at most {max_bytes} bytes are taken here.")


def _declared(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise Malformed("Content-Length is not a number.", pointer="/headers/content-length")
    return int(length)
