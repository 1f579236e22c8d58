"""A request to predict, in any of the forms it may come in, as one typed value."""

from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request

from app import strict_json
from app.bodies import media_type, off_the_loop_if_large, require_json, require_plain, validate
from app.multipart import reader
from app.prediction.answers import answer
from app.prediction.batching import Computed
from app.prediction.query import Reply, Served
from app.schemas.predictions import Asked, Engine, PredictBody
from models.errors import InvalidInput, TooLarge, UnsupportedMedia, suggest
from models.signature import TableInput
from models.weights import ModelCard

IMAGE_TYPES = frozenset({"image/png", "image/jpeg"})
FORM = "multipart/form-data"


HEADERS = ((b"content-type", b"application/json"),)
FEW_ROWS = 64
"""So many rows of numbers are read on the event loop, more in a thread."""


class PredictionRequest(NamedTuple):
    """`POST /predict`. `items` as `Preprocessing.batch` takes them: parsed JSON, or the bytes of image files. Answered
    with JSON in the shape of `schemas.predictions.Predictions`. See `query.Query`."""

    asked: Asked
    items: list[Any]
    timeout_s: float | None = None

    @property
    def model(self) -> str:
        return self.asked.model

    @property
    def engine(self) -> Engine:
        return self.asked.engine

    def is_quick(self, card: ModelCard) -> bool:
        return isinstance(card.signature.input, TableInput) and len(self.items) <= FEW_ROWS

    def read(self, card: ModelCard) -> np.ndarray:
        return card.preprocessing.batch(self.items)

    def write(self, served: Served, computed: Computed) -> Reply:
        body = answer(served, self.asked, computed)
        return Reply(body, HEADERS)


async def read_request(request: Request, max_items: int) -> PredictionRequest:
    """Raises Malformed, InvalidInput, TooLarge or UnsupportedMedia."""
    require_plain(request)
    declared = media_type(request)
    if declared in IMAGE_TYPES:
        return PredictionRequest(_of_query(request), [await request.body()])
    if declared == FORM:
        return await _of_form(request, max_items)
    if declared and not declared.endswith("json"):
        raise UnsupportedMedia(
            f"{declared[:80]!r} is not taken here. {suggest(declared[:80], {'application/json', FORM, *IMAGE_TYPES})}",
            pointer="/headers/content-type",
        )
    require_json(request)
    return await _of_json(request, max_items)


async def _of_json(request: Request, max_items: int) -> PredictionRequest:
    if request.query_params:
        name = next(iter(request.query_params))
        raise InvalidInput(
            f"Put {name[:80]!r} into the JSON body, not into the address.", pointer=f"/{name[:80]}"
        )
    return await off_the_loop_if_large(partial(parse_json, max_items=max_items), await request.body())


def parse_json(text: bytes, max_items: int) -> PredictionRequest:
    """A JSON body. Raises Malformed, InvalidInput or TooLarge."""
    value = strict_json.loads(text)
    strict_json.refuse_duplicates_of(value, text)
    if not isinstance(value, dict):
        raise InvalidInput("The body must be an object with 'model' and 'inputs'.")
    # pydantic would copy the inputs; the model's preprocessing is what checks them.
    inputs = value.get("inputs")
    body = validate(PredictBody, {**value, "inputs": inputs[:1]} if isinstance(inputs, list) else value)
    assert isinstance(inputs, list)
    if len(inputs) > max_items:
        raise TooLarge(
            f"A request may have {max_items} inputs; this one has {len(inputs)}. Send several requests.",
            pointer="/inputs",
        )
    return PredictionRequest(body, inputs)


async def _of_form(request: Request, max_items: int) -> PredictionRequest:
    with reader(request.headers["content-type"], BytesIO, max_items) as form_reader:
        form = await form_reader.read(request)
        for part in form.files:
            if part.field != "file":
                raise InvalidInput(
                    f"Send each image as a file part named 'file', not {part.field[:80]!r}.",
                    pointer=f"/{part.field[:80]}",
                )
        if not form.files:
            raise InvalidInput("Send at least one image as a file part named 'file'.", pointer="/file")
        contents = [_content(part.content) for part in form.files]
    return PredictionRequest(_of_query(request, form.fields), contents)


def _content(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read()
    return content


def _of_query(request: Request, fields: Mapping[str, str] | None = None) -> Asked:
    """What is asked, from the address and the fields of a form; lists are separated by commas."""
    given: dict[str, Any] = {**request.query_params, **(fields or {})}
    if "return" in given:
        given["return"] = [part.strip() for part in given["return"].split(",")]
    return validate(Asked, given)
