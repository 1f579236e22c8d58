"""What FastAPI and Starlette refuse by themselves, as problem documents."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from app.errors import InvalidFields, MethodNotAllowed, problem_response
from app.hints import explain
from app.parameters import documented
from models.errors import FieldProblem, InvalidInput, NotFound, TandemError


class Handlers:
    """`routes` are all that the application has: they give the methods and the nearest address."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self.routes = [route for route in routes if isinstance(route, Route)]

    def install(self, app: FastAPI) -> None:
        app.add_exception_handler(HTTPException, self.refused)
        app.add_exception_handler(RequestValidationError, self.invalid_parameters)

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(self._problem(request, error), request.scope)

    async def invalid_parameters(self, request: Request, error: Exception) -> Response:
        """Parameters of the address and headers; bodies are checked in `app.bodies`."""
        assert isinstance(error, RequestValidationError)
        problems = tuple(
            problem
            for place in ("path", "query", "header")
            for problem in _explained(place, error.errors(), documented(request, place))
        )
        return problem_response(InvalidFields(problems), request.scope)

    def _problem(self, request: Request, error: HTTPException) -> TandemError:
        match error.status_code:
            case 404:
                return NotFound(f"There is nothing at {request.url.path[:200]!r}. {self._hint(request)}")
            case 405:
                allowed = self._methods(request)
                return MethodNotAllowed(
                    f"{request.method[:20]} does not work here; {_they_do(allowed)}.", allowed=allowed
                )
            case _:
                return InvalidInput(str(error.detail))

    def _hint(self, request: Request) -> str:
        near = get_close_matches(request.url.path, [route.path for route in self.routes], n=1)
        return f"Did you mean {near[0]!r}?" if near else "GET /openapi.json lists every address."

    def _methods(self, request: Request) -> tuple[str, ...]:
        """Of all routes at this address; Starlette only tells those of the first. HEAD goes wherever GET does."""
        there = (route for route in self.routes if route.matches(request.scope)[0] is not Match.NONE)
        found = {method for route in there for method in route.methods or ()}
        return tuple(sorted(found | ({"HEAD"} if "GET" in found else set())))


def _they_do(methods: tuple[str, ...]) -> str:
    """'POST does' or 'DELETE, GET and HEAD do'."""
    *others, last = methods
    return f"{', '.join(others)} and {last} do" if others else f"{last} does"


def _explained(
    place: str, errors: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]
) -> Iterable[FieldProblem]:
    here = [{**error, "loc": error["loc"][1:]} for error in errors if error["loc"][0] == place]
    prefix = "/headers" if place == "header" else ""
    for problem in explain(here, schema):
        yield FieldProblem(prefix + problem.pointer, problem.code, problem.detail)
