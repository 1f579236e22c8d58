"""One log line and one count for every request."""

from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.counts import Counts
from app.prediction.fast_path import FAILED

QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/ui/static/{digest}/{file:path}"})
"""Asked every few seconds by machines, or two dozen at a time by a page: in the log only on debug level."""
UNMATCHED = "(none)"

log = structlog.get_logger("app.access")


class Observation:
    """Says what was asked and answered, by route template: addresses with ids in them would never end."""

    def __init__(self, app: ASGIApp, counts: Counts) -> None:
        self.app = app
        self.counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = scope[FAILED].began if FAILED in scope else perf_counter()
        status = 0

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_seen)
        finally:
            self._report(scope, status, perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        self.counts.request(scope["method"], route, status, seconds)
        write = log.debug if route in QUIET else log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            client=(scope.get("client") or ("",))[0],
        )
