"""Predictions in both protocols, answered on the connection itself, before a request becomes ASGI messages: those, the
routing and the middleware would take longer than most models.

It takes what needs no second look: the right Host and key, and a plain body of an allowed size that comes at once, or
soon behind headers that have been read before.
Everything else goes the usual way, and so does every error once it is known, so that all are told alike. What the
layers of the usual way do besides (the request's id, headers, metrics) is done here too; requests that succeed are
logged on debug level only.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import structlog

from app import strict_json
from app.counts import Counts
from app.errors import PROTOCOL
from app.inference_protocol import infer
from app.inference_protocol.infer import LENGTH_HEADER, reference
from app.middleware.request_id import is_usable
from app.prediction.parsing import PredictionRequest, parse_json
from app.prediction.query import Header, Query
from app.prediction.service import PredictionService
from app.schemas.predictions import Asked
from app.security import HEADERS, hostname, is_key
from workers.identifiers import new_id
from workers.settings import Settings

ROUTE = "/predict"
PATH = ROUTE.encode()
JSON = b"application/json"
INFER = re.compile(rb"/v2/models/([A-Za-z0-9._@-]{1,160})(?:/versions/([0-9]{1,18}))?/infer")
INFER_ROUTES = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
LARGEST_BYTES = 64 * 1024
"""A larger body is parsed in a thread, on the usual way."""
UNUSUAL = frozenset({b"content-encoding", b"transfer-encoding", b"origin", b"expect", b"upgrade"})
ANSWER_HEADERS = (
    (b"cache-control", b"no-store"),
    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
)
WELL_FORMED = re.compile(rb"POST [^\r\n]+(\r\n[^\r\n]+)*")
TEXTS = frozenset({str})
MOST_REMEMBERED = 4096
MOST_HEADERS = 32
ONCE = frozenset(
    {b"x-request-id", b"traceparent", b"b3", b"x-b3-traceid", b"x-amzn-trace-id", b"x-cloud-trace-context"}
)
"""Headers that are another with every request."""
LONGEST_HEAD = 2048
"""Bytes of a request's line and headers that are remembered."""
LONGEST_HOST = 300
Headers = Mapping[bytes, bytes]
Parse = Callable[[bytes], Query]

log = structlog.get_logger("app.access")
logger = logging.getLogger("app.access")


FAILED = "tandem.failed"
"""Where the scope of a request that goes the usual way after all says why."""


class Failed(NamedTuple):
    """What was found here, of a request that began at this time of `perf_counter`."""

    error: Exception
    began: float


class Admitted(NamedTuple):
    """A request that may be answered here once its body is whole. `route` is the template of its address, `query` makes
    a query of the body; it raises Malformed, InvalidInput, TooLarge or NotSupported."""

    route: str
    id: bytes
    query: Parse


class Head(NamedTuple):
    """What a request has before its body, read once: for all that have the same, byte for byte. `length` is that of the
    body."""

    target: bytes
    headers: tuple[Header, ...]
    length: int
    route: str
    query: Parse


class FastPath:
    def __init__(self, settings: Settings, counts: Counts) -> None:
        self._settings = settings
        self._counts = counts
        self.service: PredictionService | None = None
        """Set while the application runs."""
        self._allowed = frozenset(name.lower() for name in settings.allowed_hosts)
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._largest = min(LARGEST_BYTES, settings.max_body_bytes)
        self._hosts: set[bytes] = set()
        self._read: dict[bytes, Head] = {}
        self._asked: dict[tuple[object, ...], Asked] = {}
        self._heads: dict[tuple[Header, ...], bytes] = {}
        self._default: list[Header] | None = None
        self._ids = _numbered()

    def admitted(self, target: bytes, given: list[Header]) -> Admitted | None:
        """A POST to this target with these headers, if it may be answered here."""
        is_plain = target == PATH
        if not is_plain and not target.startswith(PROTOCOL.encode()):
            return None
        headers = dict(given)
        if (
            len(headers) < len(given)
            or not UNUSUAL.isdisjoint(headers)
            or not self._is_small(headers)
            or (is_plain and headers.get(b"content-type", JSON) != JSON)
        ):
            return None
        host = headers.get(b"host", b"")
        if not self._is_authorized(headers) or not (host in self._hosts or self._knows(host)):
            return None
        request_id = self._id(headers)
        if request_id is None:
            return None
        return (
            Admitted(ROUTE, request_id, self._parsed)
            if is_plain
            else self._infer(target, headers, request_id)
        )

    def read_before(self, head: bytes) -> Head | None:
        """What `remember` was told of the same bytes."""
        return self._read.get(head)

    def remember(self, head: bytes, target: bytes, headers: list[Header], admitted: Admitted) -> None:
        """These bytes, up to the empty line, were read as those of a request that was admitted."""
        if head in self._read or len(head) > LONGEST_HEAD or len(headers) > MOST_HEADERS:
            return
        found = dict(headers)
        if not ONCE.isdisjoint(found) or not WELL_FORMED.fullmatch(head):
            return
        if len(self._read) >= MOST_REMEMBERED:
            self._read.clear()
        length = int(found[b"content-length"])
        self._read[head] = Head(target, tuple(headers), length, admitted.route, admitted.query)

    def like(self, head: Head) -> Admitted:
        """A request with this head."""
        return Admitted(head.route, next(self._ids), head.query)

    def answer_head(self, headers: tuple[Header, ...], default: list[Header]) -> bytes:
        """The lines of an answer up to those of its own: these headers of its protocol, and the server's default
        ones."""
        if default is not self._default:  # uvicorn makes new ones every second, for the date
            self._default = default
            self._heads.clear()
        known = self._heads.get(headers)
        if known is None:
            if len(self._heads) >= MOST_REMEMBERED:
                self._heads.clear()
            lines = b"".join(b"%b: %b\r\n" % header for header in (*default, *headers, *ANSWER_HEADERS))
            known = self._heads[headers] = b"HTTP/1.1 200 OK\r\n" + lines
        return known

    def answered(self, request: Admitted, path: bytes, seconds: float) -> None:
        """Count and log an answer."""
        self._counts.request("POST", request.route, 200, seconds)
        if logger.isEnabledFor(logging.DEBUG):  # structlog would build the event first, and then drop it
            log.debug("request", path=path.decode(), status=200, duration_ms=round(seconds * 1000, 3))

    def _infer(self, target: bytes, headers: Headers, request_id: bytes) -> Admitted | None:
        found = INFER.fullmatch(target)
        if found is None:
            return None
        model, version = (None if part is None else part.decode() for part in found.groups())
        assert model is not None
        return Admitted(
            INFER_ROUTES[version is not None], request_id, partial(self._inferred, model, version, headers)
        )

    def _id(self, headers: Headers) -> bytes | None:
        """The request's id; None where it brings one that cannot be used."""
        given = headers.get(b"x-request-id")
        if given is None:
            return next(self._ids)
        return given if is_usable(given.decode("latin-1")) else None

    def _is_small(self, headers: Headers) -> bool:
        size = headers.get(b"content-length", b"")
        return size.isdigit() and len(size) < 9 and 0 < int(size) <= self._largest

    def _is_authorized(self, headers: Headers) -> bool:
        return self._key is None or is_key(self._key, headers.get(b"authorization", b"").decode("latin-1"))

    def _knows(self, host: bytes) -> bool:
        if hostname(host.decode("latin-1")) not in self._allowed:
            return False
        if len(self._hosts) < MOST_REMEMBERED and len(host) <= LONGEST_HOST:
            self._hosts.add(host)
        return True

    def _inferred(self, model: str, version: str | None, headers: Headers, body: bytes) -> Query:
        length = headers.get(LENGTH_HEADER.encode())
        return infer.query(
            reference(model, version),
            body,
            None if length is None else length.decode("latin-1"),
            self._settings.max_batch_items,
        )

    def _parsed(self, body: bytes) -> Query:
        """As `parse_json`; what was asked of one body needs no second check when the next asks the same."""
        value = strict_json.loads(body)
        strict_json.refuse_duplicates_of(value, body)
        if type(value) is dict and type(inputs := value.pop("inputs", None)) is list:
            is_plain = TEXTS.issuperset(map(type, value.values()))
            kind = *value, *(value.values() if is_plain else map(_key, value.values()))
            try:
                asked = self._asked.get(kind)
            except TypeError:  # something in it cannot be a key, and so nothing that is taken here
                asked = None
            if asked is not None and 0 < len(inputs) <= self._settings.max_batch_items:
                return PredictionRequest(asked, inputs)
            request = parse_json(body, self._settings.max_batch_items)
            if len(self._asked) >= MOST_REMEMBERED:
                self._asked.clear()
            self._asked[kind] = request.asked.model_copy(update={"inputs": []})
            return request
        return parse_json(body, self._settings.max_batch_items)


def _key(value: object) -> object:
    """For a dictionary, which would take `True` for 1."""
    return type(value), tuple(value) if type(value) is list else value


def _numbered() -> Iterator[bytes]:
    """Ids in the form of `new_id`, made by counting on from one: each costs next to nothing."""
    for start in iter(lambda: new_id("req")[:-8], None):
        begin = start.encode()
        yield from (b"%b%08d" % (begin, number) for number in range(10**8))
