"""One table from errors to HTTP status codes, and the problem document (RFC 9457) that every error becomes."""

from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Scope

from models.errors import (
    Conflict,
    CorruptArtifact,
    FieldProblem,
    InvalidInput,
    Malformed,
    NotFound,
    NotInstalled,
    NotSupported,
    TandemError,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Unauthorized(TandemError):
    """No key, or not the right one."""

    code = "unauthorized"


class Forbidden(TandemError):
    """The request comes from where none may come."""

    code = "forbidden"


class MethodNotAllowed(TandemError):
    """The address exists, but not with this method. `allowed` are the methods that it has."""

    code = "method_not_allowed"

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class SlowBody(TandemError):
    """The request's body arrives too slowly."""

    code = "slow_body"


class PreconditionFailed(TandemError):
    """What there is is not what the client wants."""

    code = "precondition_failed"


class RangeNotSatisfiable(TandemError):
    """The asked-for range lies outside the file, which has `size` bytes."""

    code = "range_not_satisfiable"

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail, pointer="/headers/range")
        self.size = size


class Internal(TandemError):
    """Ours, not the client's; what happened stands in the log under the request id."""

    code = "internal_error"


STATUS: Mapping[type[TandemError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    SlowBody: HTTPStatus.REQUEST_TIMEOUT,
    Conflict: HTTPStatus.CONFLICT,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotInstalled: HTTPStatus.NOT_IMPLEMENTED,
    NotSupported: HTTPStatus.NOT_IMPLEMENTED,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    CorruptArtifact: HTTPStatus.SERVICE_UNAVAILABLE,
    TandemError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
UNAVAILABLE_RETRY_AFTER_S = 1
PROTOCOL = "/v2"
"""Addresses of the Open Inference Protocol, whose clients know 400 for everything that is wrong with a request."""
UNKNOWN_TO_THE_PROTOCOL = frozenset({HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.UNSUPPORTED_MEDIA_TYPE})


class Fault(BaseModel):
    """One field at fault."""

    model_config = ConfigDict(frozen=True)
    pointer: str = Field(
        description="The field: a JSON pointer into the body, a parameter's name, or '/headers/...'."
    )
    code: str
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 writes it."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "Unknown architecture 'resnet-18'. Did you mean 'resnet18'?",
                    "instance": "/jobs",
                    "code": "invalid_input",
                    "request_id": "req_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "errors": [
                        {
                            "pointer": "/model/architecture",
                            "code": "unknown_value",
                            "detail": "Unknown architecture 'resnet-18'. Did you mean 'resnet18'?",
                        }
                    ],
                    "error": "Unknown architecture 'resnet-18'. Did you mean 'resnet18'?",
                }
            ]
        },
    )
    type: str = "about:blank"
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="For people: what is wrong and what to do.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="For programs: which error it is.")
    request_id: str = Field(description="Stands in the server's log too.")
    errors: tuple[Fault, ...] = Field(default=(), description="The fields at fault.")
    error: str = Field(description="The detail again, for Open Inference Protocol clients.")


class NotReady(Unavailable):
    """Parts that requests need do not answer; each is a problem of its own."""

    code = "not_ready"

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(_summary(problems))
        self._problems = problems

    @property
    def problems(self) -> tuple[FieldProblem, ...]:
        return self._problems


class InvalidFields(InvalidInput):
    """Several fields at fault at once."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__(_summary(problems))
        self._problems = problems

    @property
    def problems(self) -> tuple[FieldProblem, ...]:
        return self._problems


def _summary(problems: tuple[FieldProblem, ...]) -> str:
    shown = " ".join(problem.detail for problem in problems[:3])
    return shown + (f" And {len(problems) - 3} more." if len(problems) > 3 else "")


def status_of(error: TandemError) -> HTTPStatus:
    """The status of the nearest ancestor in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_response(error: TandemError, scope: Scope) -> Response:
    """The answer to send for this error."""
    status = status_of(error)
    if status in UNKNOWN_TO_THE_PROTOCOL and scope["path"].startswith(f"{PROTOCOL}/"):
        status = HTTPStatus.BAD_REQUEST
    detail = _sentence(error.detail, error.pointer)
    problem = Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        instance=scope["path"],
        code=error.specific_code,
        request_id=scope.get("state", {}).get("request_id", ""),
        errors=tuple(
            Fault(pointer=at.pointer, code=at.code, detail=_sentence(at.detail, at.pointer))
            for at in error.problems
        ),
        error=detail,
    )
    return Response(problem.model_dump_json(), int(status), _headers(error), PROBLEM_MEDIA_TYPE)


def _sentence(text: str, pointer: str | None) -> str:
    """The text with a capital letter in front, unless it begins with a field's name: 'target names a column', but
    "Model 'digits-cnn' has no version 9"."""
    word, _, rest = text.partition(" ")
    word = word.partition("[")[0]
    is_field = word == (pointer or "").rpartition("/")[2] and not rest.startswith("'")
    return text if is_field or "_" in word or word in ("x", "y") else text[:1].upper() + text[1:]


def _headers(error: TandemError) -> dict[str, str]:
    match error:
        case Unauthorized():
            return {"WWW-Authenticate": 'Bearer realm="tandem"'}
        case MethodNotAllowed(allowed=allowed):
            return {"Allow": ", ".join(allowed)}
        case RangeNotSatisfiable(size=size):
            return {"Content-Range": f"bytes */{size}"}
        case Conflict(retry_after_s=int(seconds)):
            return {"Retry-After": str(seconds)}
        case Unavailable():
            return {"Retry-After": str(UNAVAILABLE_RETRY_AFTER_S)}
        case TooLarge() | SlowBody():
            # The rest of the body is not read, so the connection cannot be used again.
            return {"Connection": "close"}
        case _:
            return {}
