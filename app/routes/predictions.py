"""The framework-agnostic endpoint: predict with any model on either engine."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from app.deps import Uses
from app.openapi import READING_A_BODY, REFERENCE, problems
from app.prediction.fast_path import FAILED
from app.prediction.parsing import FORM, IMAGE_TYPES, read_request
from app.prediction.query import Reply
from app.schemas.predictions import EXAMPLES, Asked, PredictBody, Predictions

router = APIRouter(tags=["Predict"])

BINARY = {"type": "string", "format": "binary"}
FIELDS = Asked.model_json_schema(by_alias=True)["properties"]
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(model=PredictBody.__name__)},
                "examples": {name: {"value": value} for name, value in EXAMPLES.items()},
            },
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": BINARY, "minItems": 1}, **FIELDS},
                },
                "example": {"file": ["<bytes of three.png>"], "model": "digits-cnn"},
            },
            **{kind: {"schema": BINARY, "example": "<bytes of the file>"} for kind in sorted(IMAGE_TYPES)},
        },
    },
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {key: value for key, value in field.items() if key != "examples"},
            "description": "For image and form bodies; a JSON body has it inside. "
            + field.get("description", ""),
            "example": field["examples"][0],
            **({"style": "form", "explode": False} if name == "return" else {}),
        }
        for name, field in FIELDS.items()
    ],
}


@router.post(
    "/predict",
    responses=problems(404, *READING_A_BODY, besides={200: {"model": Predictions}}),
    openapi_extra=BODY,
)
async def predict(request: Request, uses: Uses) -> Response:
    """Predict.

    The inputs come as JSON, as files of a form, or as one image file in the body; the last two with `?model=`. The
    model's own preprocessing (resizing, normalisation) is applied.
    """
    if FAILED in request.scope:
        raise request.scope.pop(FAILED).error
    asked = await read_request(request, uses.settings.max_batch_items)
    return response(await uses.predictions.predict(asked, request.receive))


def response(reply: Reply | None) -> Response:
    """What the service answered. Raises ClientDisconnect when nobody waits for it any more."""
    if reply is None:
        raise ClientDisconnect
    return Response(reply.body, headers={name.decode(): value.decode() for name, value in reply.headers})
