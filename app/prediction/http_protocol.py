"""HTTP as uvicorn speaks it on a connection, and answers there to what the fast path takes.

It leans on the attributes by which uvicorn's own protocol keeps its state: `headers` and `scope` of the request being
read, `cycle`, the exchange that is open, and `pipeline`, the requests behind it.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

import httptools
import structlog
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.prediction.fast_path import FAILED, Admitted, Failed, FastPath
from app.prediction.query import Header, Reply
from app.prediction.service import PredictionService
from models.errors import TandemError

HELD_S = 0.1
"""So long the rest of a body behind such a head may take; then it goes the usual way."""
EMPTY_LINE = b"\r\n\r\n"

log = structlog.get_logger("app.access")


class HttpProtocol(HttpToolsProtocol):
    """What is admitted and comes at once is answered here. A request whose head has been read before is not parsed, and
    may be waited for; see `FastPath.remember`."""

    cycle: Any
    """uvicorn's `RequestResponseCycle` or our `Exchange`; None before the first request."""

    def __init__(self, fast_path: FastPath, **given: Any) -> None:
        super().__init__(**given)
        self.url = b""
        self.fast_path = fast_path
        self._admitted: Admitted | None = None
        self._reads = False
        """Whether the parser is within a request."""
        self._chunk = b""
        """What is being parsed, while it is the begin of a request."""
        self._held = b""
        """The begin of a request that needs no parser, while the rest of its body is still to come."""
        self._patience: asyncio.TimerHandle | None = None
        self._pieces = b""
        self._exchange: Exchange | None = None
        self._idle_since: float | None = None
        """The loop's time when the last answer was given; None while there is something to do."""

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._let_go() + data
        if self._reads or not self._took(data):
            self._be_patient_no_more()
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._chunk = b"" if self._reads else data
        super().data_received(data)
        if self._admitted is not None:  # the rest of the body is still to come
            self._admitted = None
            if not self.transport.is_closing():
                self._go_the_usual_way()

    def on_message_begin(self) -> None:
        self._reads = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if (
            self._is_free()
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
        ):
            admitted = self.fast_path.admitted(self.url, self.headers)
            if admitted is not None and self.parser.should_keep_alive():
                self._admitted, self._pieces = admitted, b""
                if self._chunk:
                    self.fast_path.remember(
                        self._chunk.partition(EMPTY_LINE)[0], self.url, self.headers, admitted
                    )
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._admitted is None:
            super().on_body(body)
        else:
            self._pieces += body

    def on_message_complete(self) -> None:
        self._reads, self._chunk = False, b""
        admitted, self._admitted = self._admitted, None
        service = self.fast_path.service
        if admitted is None:
            super().on_message_complete()
        elif service is None:
            self._go_the_usual_way()
            super().on_message_complete()
        else:
            body, self._pieces = self._pieces, b""
            self._open(admitted, self.url, self.headers, body, service)

    def on_response_complete(self) -> None:
        """A connection keeps one timer for its idle times: a new one after each request would take longer than the rest
        of this."""
        is_idle = not self.pipeline
        if self.timeout_keep_alive_task is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        self._idle_since = self.loop.time() if is_idle else None

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        if self._held:
            self._parse(self._let_go())
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        self._be_patient_no_more()
        super()._unset_keepalive_if_required()
        if self._exchange is not None:
            self._exchange.leave()
        super().connection_lost(exc)
        self._exchange = self.cycle = None  # they lead back here

    def _took(self, data: bytes) -> bool:
        """Whether this is a request whose head has been read before; then it is under way, or held until its body is
        whole."""
        head, _, body = data.partition(EMPTY_LINE)
        known, service = self.fast_path.read_before(head), self.fast_path.service
        if known is None or service is None or len(body) > known.length or not self._is_free():
            return False
        self._unset_keepalive_if_required()
        if len(body) < known.length:
            self._hold(data)
            return True
        self._open(self.fast_path.like(known), known.target, known.headers, body, service)
        return True

    def _hold(self, data: bytes) -> None:
        self._held = data
        if self._patience is None:
            self._patience = self.loop.call_later(HELD_S, self._give_up)

    def _let_go(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _give_up(self) -> None:
        """Waiting for the rest of a body; the usual way has its bounds for that."""
        self._patience = None
        if self._held:
            self._parse(self._let_go())

    def _is_free(self) -> bool:
        """Whether the next answer is that to the next request. A client that does not read what it asked for goes the
        usual way, which waits for it."""
        is_free = self.cycle is None or self.cycle.response_complete
        return is_free and not self.flow.write_paused

    def _open(
        self,
        admitted: Admitted,
        target: bytes,
        headers: Sequence[Header],
        body: bytes,
        service: PredictionService,
    ) -> None:
        self._be_patient_no_more()
        self._exchange = self.cycle = Exchange(self, admitted, target, headers, body)
        self._exchange.begin(service)

    def _be_patient_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _go_the_usual_way(self) -> None:
        super().on_headers_complete()
        super().on_body(self._pieces)

    def dispatch(
        self, target: bytes, headers: Sequence[Header], body: bytes, keep_alive: bool, failed: Failed
    ) -> None:
        """Hand a whole request to the application, and why it was not answered here. Others may have been read
        since."""
        address = httptools.parse_url(target)
        scope = self._scope()
        scope.update(
            {FAILED: failed},
            headers=[*headers],
            method="POST",
            path=address.path.decode(),
            raw_path=address.path,
            query_string=address.query or b"",
        )
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        if self.cycle is self._exchange:  # else it is that of a request behind this one
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def _scope(self) -> Any:
        """As uvicorn makes it when a request begins."""
        being_read = self.url, self.expect_100_continue, self.headers, self.scope
        super().on_message_begin()
        scope = self.scope
        self.url, self.expect_100_continue, self.headers, self.scope = being_read
        return scope


class Exchange:
    """A request and its answer. It stands where uvicorn has its cycle, and has the attributes that uvicorn asks for."""

    __slots__ = (
        "_began", "_body", "_connection", "_gone", "_headers", "_leave", "_request", "_target",
        "disconnected", "keep_alive", "response_complete",
    )  # fmt: skip

    def __init__(
        self,
        connection: HttpProtocol,
        request: Admitted,
        target: bytes,
        headers: Sequence[Header],
        body: bytes,
    ) -> None:
        self._connection = connection
        self._request = request
        self._target = target
        self._headers = headers
        self._body = body
        self._began = perf_counter()
        self._leave: Any = None
        self._gone: asyncio.Event | None = None
        self.keep_alive = True
        self.disconnected = self.response_complete = False

    @property
    def message_event(self) -> Self:
        """uvicorn sets it when the connection is lost."""
        return self

    def set(self) -> None:
        """See `leave`, which is told the same."""

    def begin(self, service: PredictionService) -> None:
        try:
            query = self._request.query(self._body)
            self._leave = service.begin(query, self._tell)
            if self._leave is None:
                self._gone = asyncio.Event()
                connection = self._connection
                task = connection.loop.create_task(self._predict(service, query))
                task.add_done_callback(connection.tasks.discard)
                connection.tasks.add(task)
        except Exception as error:  # noqa: BLE001 - told the usual way
            self._fail(error)
        if self.response_complete:  # told at once
            self._leave = None

    def leave(self) -> None:
        """The client has gone."""
        if self.response_complete:
            return
        self.disconnected = self.response_complete = True
        if self._leave is not None:
            self._leave()
            self._leave = None
        if self._gone is not None:
            self._gone.set()
        log.info("client_disconnected", path=self._target.decode())

    async def _predict(self, service: PredictionService, query: Any) -> None:
        try:
            reply = await service.predict(query, self._receive)
        except Exception as error:  # noqa: BLE001 - told the usual way
            self._tell(error)
        else:
            if reply is not None:
                self._tell(reply)

    async def _receive(self) -> Message:
        assert self._gone is not None
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def _tell(self, found: Reply | Exception) -> None:
        if self.disconnected:
            return
        if isinstance(found, Exception):
            self._fail(found)
        else:
            self._answer(found)

    def _answer(self, reply: Reply) -> None:
        connection, request = self._connection, self._request
        self.response_complete = True
        self._leave = None  # it leads back here: only the garbage collector would find that circle
        close = b"" if self.keep_alive else b"connection: close\r\n"
        head = connection.fast_path.answer_head(reply.headers, connection.server_state.default_headers)
        connection.transport.write(
            b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (head, close, request.id, len(reply.body), reply.body)
        )
        connection.fast_path.answered(request, self._target, perf_counter() - self._began)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()

    def _fail(self, error: Exception) -> None:
        self.response_complete = True
        self._leave = None
        if isinstance(error, TandemError):
            # No log will say where it was raised, and what was there would be kept by it.
            error.__traceback__ = error.__context__ = None
        self._connection.dispatch(
            self._target, self._headers, self._body, self.keep_alive, Failed(error, self._began)
        )
