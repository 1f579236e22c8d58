"""Predictions in both protocols, answered before the request reaches FastAPI: routing and middleware alone would take
longer than most models.

It takes what needs no second look: the right Host and key, and a plain body of an allowed size that comes at once.
Everything else goes the usual way, and so does every error once it is known, so that all are told alike. What the
layers of the usual way do besides (the request's id, headers, metrics) is done here too; requests that succeed are
logged on debug level only.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import strict_json
from app.errors import PROTOCOL, SlowBody
from app.inference_protocol import infer
from app.inference_protocol.infer import LENGTH_HEADER, reference
from app.metrics import Metrics
from app.middleware.request_id import is_usable
from app.prediction.parsing import PredictionRequest, parse_json
from app.prediction.query import Query
from app.prediction.service import PredictionService
from app.schemas.predictions import Asked
from app.security import HEADERS, hostname, is_key
from models.errors import TandemError
from workers.identifiers import new_id
from workers.settings import Settings

PATH = "/predict"
JSON = b"application/json"
INFER = re.compile(r"/v2/models/([A-Za-z0-9._@-]{1,160})(?:/versions/([0-9]{1,18}))?/infer")
INFER_ROUTES = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
FAILED = "tandem.failed"
"""Where a scope that goes the usual way holds the error that was found here."""
LARGEST_BYTES = 64 * 1024
"""A larger body is parsed in a thread, on the usual way."""
UNUSUAL = frozenset({b"content-encoding", b"transfer-encoding", b"origin", b"expect"})
ANSWER_HEADERS = [
    (b"cache-control", b"no-store"),
    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
]
MOST_REMEMBERED = 4096
Headers = Mapping[bytes, bytes]
Parse = Callable[[Headers, bytes], Query]

log = structlog.get_logger("app.access")
logger = logging.getLogger("app.access")


class FastPath:
    """`service` gives the predictions, None before the application has started."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        service: Callable[[], PredictionService | None],
    ) -> None:
        self.app = app
        self._settings = settings
        self._metrics = metrics
        self._service = service
        self._allowed = frozenset(name.lower() for name in settings.allowed_hosts)
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._largest = min(LARGEST_BYTES, settings.max_body_bytes)
        self._hosts: set[bytes] = set()
        self._asked: dict[tuple[object, ...], Asked] = {}
        self._ids = _numbered()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (found := self._protocol(scope["path"])):
            service = self._service()
            route, parse = found
            headers = dict(scope["headers"])
            request_id = self._admitted(scope, headers)
            if service is not None and request_id is not None:
                request = _Request(route, request_id, partial(parse, headers))
                await self._serve(service, request, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _protocol(self, path: str) -> tuple[str, Parse] | None:
        """The route of a prediction, and what makes a query of its headers and body."""
        if path == PATH:
            return PATH, self._parsed
        if path.startswith(PROTOCOL) and (found := INFER.fullmatch(path)):
            model, version = found.groups()
            return INFER_ROUTES[version is not None], partial(self._inferred, model, version)
        return None

    def _admitted(self, scope: Scope, headers: Headers) -> bytes | None:
        """The request's id, if it may be answered here."""
        if (
            scope["query_string"]
            or len(headers) < len(scope["headers"])
            or not UNUSUAL.isdisjoint(headers)
            or not self._is_small(headers)
            or (scope["path"] == PATH and headers.get(b"content-type", JSON) != JSON)
        ):
            return None
        host = headers.get(b"host", b"")
        if not (host in self._hosts or self._knows(host)) or not self._is_authorized(headers):
            return None
        request_id = headers.get(b"x-request-id")
        if request_id is None:
            return next(self._ids)
        return request_id if is_usable(request_id.decode("latin-1")) else None

    def _is_small(self, headers: Headers) -> bool:
        size = headers.get(b"content-length", b"")
        return size.isdigit() and len(size) < 9 and 0 < int(size) <= self._largest

    def _is_authorized(self, headers: Headers) -> bool:
        return self._key is None or is_key(self._key, headers.get(b"authorization", b"").decode("latin-1"))

    def _knows(self, host: bytes) -> bool:
        if hostname(host.decode("latin-1")) not in self._allowed:
            return False
        if len(self._hosts) < MOST_REMEMBERED:
            self._hosts.add(host)
        return True

    async def _serve(
        self, service: PredictionService, request: "_Request", scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = perf_counter()
        message: Message | None = None
        try:
            message = await _received(receive, self._settings.body_grace_s)
            if message["type"] != "http.request" or message.get("more_body", False):
                await self.app(scope, _again(message, receive), send)
                return
            reply = await service.predict(request.query(message["body"]), receive)
        except Exception as error:  # noqa: BLE001 - told the usual way
            scope[FAILED] = _slow() if message is None else error
            await self.app(scope, _again(message, receive), send)
            return
        if reply is None:
            log.info("client_disconnected", path=scope["path"])
            return
        length = (b"content-length", str(len(reply.body)).encode())
        headers = [*reply.headers, *ANSWER_HEADERS, (b"x-request-id", request.id), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        seconds = perf_counter() - started
        self._metrics.observe_request("POST", request.route, 200, seconds)
        if logger.isEnabledFor(logging.DEBUG):  # structlog would build the event first, and then drop it
            log.debug("request", path=scope["path"], status=200, duration_ms=round(seconds * 1000, 3))

    def _inferred(self, model: str, version: str | None, headers: Headers, body: bytes) -> Query:
        length = headers.get(LENGTH_HEADER.encode())
        return infer.query(
            reference(model, version),
            body,
            None if length is None else length.decode("latin-1"),
            self._settings.max_batch_items,
        )

    def _parsed(self, headers: Headers, body: bytes) -> Query:
        """As `parse_json`; what was asked of one body needs no second check when the next asks the same."""
        value = strict_json.loads(body)
        if type(value) is dict and type(inputs := value.pop("inputs", None)) is list:
            kind = tuple(
                (name, type(one), tuple(one) if type(one) is list else one) for name, one in value.items()
            )
            try:
                asked = self._asked.get(kind)
            except TypeError:  # something in it cannot be a key, and so nothing that is taken here
                asked = None
            if asked is not None and 0 < len(inputs) <= self._settings.max_batch_items:
                return PredictionRequest(asked, inputs)
            request = parse_json(body, self._settings.max_batch_items)
            if len(self._asked) >= MOST_REMEMBERED:
                self._asked.clear()
            self._asked[kind] = request.asked
            return request
        return parse_json(body, self._settings.max_batch_items)


@dataclass(frozen=True)
class _Request:
    """`route` is the template of the address, `query` makes a query of the body."""

    route: str
    id: bytes
    query: Callable[[bytes], Query]


async def _received(receive: Receive, seconds: float) -> Message:
    """The next message. It usually is there already, and a clock is started only where it is not."""
    receiving = receive()
    assert isinstance(receiving, Coroutine)
    try:
        waits_for = receiving.send(None)
    except StopIteration as arrived:
        message: Message = arrived.value
        return message
    try:
        async with asyncio.timeout(seconds):
            return await _Rest(receiving, waits_for)
    finally:
        receiving.close()


@dataclass(frozen=True)
class _Rest:
    """A coroutine that was begun already, and what it waits for."""

    coroutine: Coroutine[Any, None, Message]
    waits_for: Any

    def __await__(self) -> Generator[Any, None, Message]:
        yield self.waits_for
        return (yield from self.coroutine.__await__())


def _again(message: Message | None, receive: Receive) -> Receive:
    """A `receive` that gives a message that was taken already, and then the others."""
    taken = [] if message is None else [message]

    async def again() -> Message:
        return taken.pop() if taken else await receive()

    return again


def _slow() -> TandemError:
    return SlowBody("The body came too slowly. Send it again, faster.")


def _numbered() -> Iterator[bytes]:
    """Ids in the form of `new_id`, made by counting on from one: each costs next to nothing."""
    for start in iter(lambda: new_id("req")[:-8], None):
        yield from (f"{start}{number:08d}".encode() for number in range(10**8))
