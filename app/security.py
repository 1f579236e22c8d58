"""Who may ask: the Host allow-list, foreign pages, the key; and what browsers are told about every answer."""

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Forbidden, Unauthorized
from models.errors import Malformed

OPEN = frozenset({"/", "/docs", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Answered without a key: orchestrators ask here and hold none, and these pages hold no data."""
PAGES = "/ui/"
"""The other pages and their files: they hold no data, but ask for it, with the key, as every client does."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class HostCheck:
    """Answers only to its own names, and changes nothing for pages of other sites.

    A loopback address is no protection by itself: a page may let its own name point to 127.0.0.1 (DNS rebinding,
    foreign Host), or simply post a form there (foreign Origin).
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self.app = app
        self.allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(Headers(scope=scope), scope["method"])
        await self.app(scope, receive, send)

    def _check(self, headers: Headers, method: str) -> None:
        if hostname(headers.get("host", "")) not in self.allowed:
            raise Malformed(
                "This server does not answer to that Host. TANDEM_ALLOWED_HOSTS lists the names it does answer to.",
                pointer="/headers/host",
                code="foreign_host",
            )
        origin = headers.get("origin")
        if origin is None or method in SAFE_METHODS:
            return
        if _name_of(origin) not in self.allowed:
            raise Forbidden(
                "Pages of other sites may not change anything here.",
                pointer="/headers/origin",
                code="foreign_origin",
            )


def hostname(authority: str) -> str:
    """The name in `name:port`, in lower case; an IPv6 address keeps its brackets."""
    name = authority.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].removesuffix(".")


def _name_of(origin: str) -> str:
    """The name in `http://name:port`; none in what is no address, such as `http://[x`."""
    try:
        return hostname(urlsplit(origin).netloc)
    except ValueError:
        return ""


class KeyCheck:
    """Asks for `Authorization: Bearer <key>` when a key is set."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self.app = app
        self.digest = None if key is None else _digest(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.digest and not _is_open(scope["path"]):
            self._check(self.digest, Headers(scope=scope).get("authorization", ""))
        await self.app(scope, receive, send)

    def _check(self, digest: bytes, authorization: str) -> None:
        if not _is_bearer(digest, authorization):
            raise Unauthorized("Send the server's key as 'Authorization: Bearer <key>'.")


def is_key(key: str, authorization: str) -> bool:
    """Whether an Authorization header brings this key."""
    return _is_bearer(_digest(key), authorization)


def _is_bearer(digest: bytes, authorization: str) -> bool:
    scheme, _, key = authorization.partition(" ")
    right = hmac.compare_digest(digest, _digest(key.strip()))
    return scheme.lower() == "bearer" and right


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(PAGES)


def _digest(key: str) -> bytes:
    # Digests of one length: comparing them takes the same time whatever was sent.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class SecurityHeaders:
    """No sniffing, no frames, no referrer; no caching unless the route says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_guarded)
