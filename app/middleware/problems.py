"""Turns whatever went wrong into a problem document, and what nobody expected into a log line as well."""

from http import HTTPStatus

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Internal, problem_response, status_of
from models.errors import TandemError

log = structlog.get_logger("app.problems")


class Problems:
    """Answers every exception from inside. Once an answer has begun, all it can do is break the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except ClientDisconnect:
            log.info("client_disconnected", path=scope["path"])
        except Exception as error:
            problem = _expected(error)
            if begun:
                raise
            await problem_response(problem, scope)(scope, receive, send)


def _expected(error: Exception) -> TandemError:
    """The error itself if it is one of ours, else a 500 that gives nothing away."""
    if isinstance(error, TandemError):
        if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("refused", code=error.specific_code, detail=error.detail)
        return error
    log.error("unexpected_error", exc_info=error)
    return Internal("Something went wrong on the server. Its log has the details under this request id.")
