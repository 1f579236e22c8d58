"""The OpenAPI document: what FastAPI finds by itself, and the bodies and errors that we handle ourselves."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.errors import PROBLEM_MEDIA_TYPE, PROTOCOL, Problem
from app.schemas.exports import ExportBody
from app.schemas.imports import ImportForm
from app.schemas.inference_protocol import IndexBody, InferenceRequest, InferenceResponse, RepositoryBody
from app.schemas.models import AliasTarget, ModelChange, VersionChange
from app.schemas.paging import Answer
from app.schemas.predictions import PredictBody
from models.job import ComparisonSpec, JobSpec
from models.scoring.spec import PredictionSpec

Responses = dict[int | str, dict[str, Any]]
ALWAYS = (400, 401, 422, 500, 503)
REFERENCE = "#/components/schemas/{model}"
MODELS: tuple[type[BaseModel], ...] = (
    JobSpec,
    ComparisonSpec,
    AliasTarget,
    ModelChange,
    VersionChange,
    ExportBody,
    ImportForm,
    PredictBody,
    PredictionSpec,
    Problem,
    InferenceRequest,
    InferenceResponse,
    IndexBody,
    RepositoryBody,
)
DESCRIPTION = """\
Post a dataset and a spec; train it in PyTorch or JAX; serve the weights from either.

Errors are `application/problem+json` (RFC 9457). Every answer has an `X-Request-Id`. Lists are paged with `limit`,
`after` and `order`. A POST that creates something takes an `Idempotency-Key` and can then be sent again safely.
"""
MEANINGS: Mapping[int, str] = {
    400: "The request cannot be read, or its Host is not one of this server's names.",
    401: "The server wants its key: `Authorization: Bearer <key>`.",
    403: "The request comes from another site's page.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "It contradicts the present state.",
    412: "The file is not the one that `If-Match` wants.",
    413: "The body is too large.",
    415: "This kind of body is not taken here.",
    416: "The range lies outside the file.",
    422: "Something in the request is wrong; `errors` names the fields.",
    500: "Our mistake; the log has it under the request id.",
    501: "This server lacks an optional package or an extension that this needs.",
    503: "Something this needs does not answer now.",
}
READING_A_BODY = (403, 408, 413, 415)


def problems(*statuses: int, besides: Responses | None = None) -> Responses:
    """The answers of an operation: these errors, those that every operation may have, and what is given besides."""
    return {**(besides or {}), **{status: _problem(status) for status in sorted({*ALWAYS, *statuses})}}


def _problem(status: int) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    detail = MEANINGS[status]
    example = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "/jobs",
        "code": title.lower().replace(" ", "_"),
        "request_id": "req_01jd8zq4m3v6x9n2k5t7w0y1ab",
        "errors": [],
        "error": detail,
    }
    schema = {"$ref": REFERENCE.format(model=Problem.__name__)}
    return {"description": detail, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema, "example": example}}}


def json_body(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """`openapi_extra` of an operation whose body `app.bodies` reads. Each example under its name."""
    media = {
        "schema": {"$ref": REFERENCE.format(model=model.__name__)},
        "examples": {name: {"value": example} for name, example in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document. FastAPI asks for it once and we keep it."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    _, ours = models_json_schema([(model, "validation") for model in MODELS], ref_template=REFERENCE)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    found["components"]["schemas"] = {**ours["$defs"], **schemas}
    _restore_examples(found["components"]["schemas"])
    found["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "Only where the server has TANDEM_API_KEY set.",
        }
    }
    found["security"] = [{}, {"key": []}]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            if path.startswith(PROTOCOL):  # see there: it answers 400 instead
                operation["responses"].pop("422", None)
            _complete(operation, found["components"]["schemas"])
    return found


def _restore_examples(schemas: dict[str, Any]) -> None:
    """FastAPI drops whatever is null, also from examples, which no longer fit their schemas then."""
    for model in Answer.__subclasses__():
        extra = model.model_config.get("json_schema_extra")
        if model.__name__ in schemas and isinstance(extra, Mapping):
            schemas[model.__name__]["examples"] = extra["examples"]


def _complete(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Add to every answer the request id and, from its schema, an example."""
    for response in operation["responses"].values():
        response.setdefault("headers", {})["X-Request-Id"] = {
            "description": "The request's own, else a new one.",
            "schema": {"type": "string"},
            "example": "req_01jd8zq4m3v6x9n2k5t7w0y1ab",
        }
        for media in response.get("content", {}).values():
            if "example" not in media and "examples" not in media:
                media["example"] = _example(media.get("schema", {}), schemas)


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """The schema's own example; for a list, one with the example of its items."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    items = schema.get("properties", {}).get("data", {}).get("items")
    if items is None:
        return None
    item = _example(items, schemas)
    name = str(item.get("id", item.get("name")))
    return {"object": "list", "data": [item], "has_more": False, "first_id": name, "last_id": name}
