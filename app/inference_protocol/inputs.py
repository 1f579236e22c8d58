"""From the tensors of a request to what a model takes.

Shape suffixes: B batch, H height, W width, C channels, F features, T tokens.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from app.inference_protocol.tensors import IDS, IMAGE, INPUT, MASK, TEXT, Tensor, inputs_of
from app.inference_protocol.wire import BYTES, NUMERIC, InferRequest, InputTensor
from models.errors import InvalidInput, suggest
from models.plan import width_of
from models.signature import ImageInput, TableInput, TokenInput
from models.weights import ModelCard

QUICK_BYTES = 64 * 1024
"""So much is read on the event loop, unless it has to be decoded first."""
_POINTER = "/inputs/"


def is_quick(request: InferRequest) -> bool:
    """Whether reading takes less than handing it to a thread."""
    if request.raw is not None or any(one.datatype == BYTES for one in request.inputs):
        return False
    return sum(one.nbytes for one in request.inputs) <= QUICK_BYTES


def read(request: InferRequest, card: ModelCard, most_rows: int) -> np.ndarray:
    """The samples, as `Predictor.logits` takes them. Raises InvalidInput."""
    if request.raw is not None:
        return _raw(request.raw, card)
    given = {one.name: one for one in request.inputs}
    known = {one.name: one for one in inputs_of(card.signature)}
    for name, one in given.items():
        if name not in known:
            hint = suggest(name[:80], known) if len(known) <= 16 else ""
            raise one.fault(f"is not one of this model's. {hint}".rstrip("."))
    _check_rows(request.inputs, most_rows)
    match card.signature.input:
        case ImageInput():
            return _images(given, known, card)
        case TableInput():
            return _rows(given, known, card)
        case TokenInput() as input:
            return _texts(given, known, card, input)
    raise AssertionError(card.signature.input)


def _check_rows(inputs: Sequence[InputTensor], most: int) -> None:
    rows = inputs[0].shape[0]
    if rows == 0:
        raise inputs[0].fault("has no rows: its shape begins with 0")
    if rows > most:
        raise inputs[0].fault(f"has {rows} rows; a request may have {most}. Send several")
    for one in inputs:
        if one.shape[0] != rows:
            raise one.fault(f"has {one.shape[0]} rows and {inputs[0].name[:80]!r} has {rows}")


def _only(given: Mapping[str, InputTensor], names: Sequence[str]) -> InputTensor:
    """The one of these that is given."""
    found = [given[name] for name in names if name in given]
    if len(found) != 1:
        raise InvalidInput(
            f"Give one of {' and '.join(map(repr, names))}, not {len(found)}.", pointer="/inputs"
        )
    return found[0]


def _checked(one: InputTensor, expected: Tensor) -> np.ndarray:
    """A tensor that has the datatype and the shape of this one. Raises InvalidInput."""
    if one.datatype != expected.datatype:
        raise one.fault(f"is {one.datatype}; the model takes {expected.datatype}")
    if len(one.shape) != len(expected.shape) or any(
        wanted not in (-1, side) for side, wanted in zip(one.shape, expected.shape, strict=True)
    ):
        raise one.fault(f"has shape {list(one.shape)}; the model takes {list(expected.shape)}")
    return one.array()


def _finite(one: InputTensor, x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise one.fault(f"holds NaN or an infinity, in row {row}", code="not_finite")
    return x


def _images(given: Mapping[str, InputTensor], known: Mapping[str, Tensor], card: ModelCard) -> np.ndarray:
    one = _only(given, (IMAGE, INPUT))
    if one.name == INPUT:
        return _finite(one, _checked(one, known[INPUT]))
    if one.datatype != BYTES:
        return _checked(one, known[IMAGE])
    _check_column(one)
    # No image file is valid UTF-8, so what JSON has of one can only be base64.
    return _translated(one.elements(is_base64=True), [one], card)


def _rows(given: Mapping[str, InputTensor], known: Mapping[str, Tensor], card: ModelCard) -> np.ndarray:
    if (one := given.get(INPUT)) is not None and known[INPUT].shape != (-1,):
        if len(given) > 1:
            raise InvalidInput(f"Give either {INPUT!r} or the columns, not both.", pointer="/inputs")
        return _finite(one, _checked(one, known[INPUT]))
    columns = [_column(one) for one in given.values()]
    rows = [dict(zip(given, values, strict=True)) for values in zip(*columns, strict=True)]
    return _translated(rows, [*given.values()], card)


def _column(one: InputTensor) -> list[Any]:
    """The values of a column, [B] or [B, 1]; any kind of number does, and NaN and empty texts are missing."""
    _check_column(one)
    if one.datatype == BYTES:
        return [_text(one, element) for element in one.elements()]
    return _numbers(one)


def _numbers(one: InputTensor) -> list[Any]:
    if one.datatype not in NUMERIC:
        raise one.fault(f"is {one.datatype}; a column takes numbers, BOOL or BYTES")
    values: list[Any] = one.array().ravel().tolist()
    return [None if isinstance(value, float) and isnan(value) else value for value in values]


def _texts(
    given: Mapping[str, InputTensor], known: Mapping[str, Tensor], card: ModelCard, input: TokenInput
) -> np.ndarray:
    if MASK in given and IDS not in given:
        raise given[MASK].fault(f"goes with {IDS!r}")
    one = _only(given, (TEXT, IDS))
    if one.name == IDS:
        return _tokens(one, given.get(MASK), known, input)
    if one.datatype != BYTES:
        raise one.fault(f"is {one.datatype}; the model takes {BYTES}")
    _check_column(one)
    return _translated([_text(one, element) for element in one.elements()], [one], card)


def _tokens(
    one: InputTensor, mask: InputTensor | None, known: Mapping[str, Tensor], input: TokenInput
) -> np.ndarray:
    """Token ids, int32 [B, T]; T is rounded up to a usual width."""
    ids_BT = _checked(one, known[IDS])
    if ids_BT.shape[1] > input.length:
        raise one.fault(f"has {ids_BT.shape[1]} tokens; the model takes at most {input.length}")
    if not ((ids_BT >= 0) & (ids_BT < input.vocabulary)).all():
        raise one.fault(f"holds an id that is none of this model's: 0 to {input.vocabulary - 1}")
    allowed_BT = ids_BT != input.padding
    if mask is not None:
        mask_BT = _checked(mask, known[MASK])
        if mask_BT.shape != ids_BT.shape:
            raise mask.fault(f"has shape {list(mask.shape)}; {IDS!r} has {list(one.shape)}")
        if not np.isin(mask_BT, (0, 1)).all():
            raise mask.fault("holds other values than 0 and 1")
        allowed_BT = allowed_BT & (mask_BT == 1)
    lengths_B = allowed_BT.sum(axis=1)
    if not lengths_B.all():
        raise one.fault(f"has a text without tokens, in row {int(np.argmin(lengths_B))}")
    if not (allowed_BT == (np.arange(ids_BT.shape[1]) < lengths_B[:, None])).all():
        raise one.fault("has padding before or between tokens; padding goes at the end")
    found = np.full((len(ids_BT), width_of(ids_BT.shape[1], input.length)), input.padding, np.int32)
    found[:, : ids_BT.shape[1]] = np.where(allowed_BT, ids_BT, input.padding)
    return found


def _raw(body: bytes, card: ModelCard) -> np.ndarray:
    """A body without any JSON: one image file, one text, or the float32 values of rows."""
    match card.signature.input:
        case ImageInput():
            one = InputTensor(IMAGE, BYTES, (1,), body, pointer="/inputs/0")
            return _translated([body], [one], card)
        case TableInput(features=features):
            rows, rest = divmod(len(body), 4 * features)
            if rest or not rows:
                raise InvalidInput(
                    f"The body has {len(body)} bytes; a row of this model has {features} FP32, {4 * features} bytes.",
                    pointer="/inputs/0",
                )
            one = InputTensor(INPUT, "FP32", (rows, features), body, pointer="/inputs/0")
            return _finite(one, one.array())
        case _:
            one = InputTensor(TEXT, BYTES, (1,), body, pointer="/inputs/0")
            return _translated([_text(one, body)], [one], card)


def _check_column(one: InputTensor) -> None:
    """Raise InvalidInput unless the shape is [B] or [B, 1]."""
    if len(one.shape) > 1 and one.shape[1:] != (1,):
        raise one.fault(f"has shape {list(one.shape)}; the model takes [-1] or [-1, 1]")


def _text(one: InputTensor, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise one.fault("holds bytes that are not UTF-8") from None


def _translated(items: Sequence[Any], tensors: list[InputTensor], card: ModelCard) -> np.ndarray:
    """What the model's preprocessing makes of these items; it says which is wrong by its place in a list."""
    try:
        return card.preprocessing.batch(items)
    except InvalidInput as error:
        row, _, column = (error.pointer or "").removeprefix(_POINTER).partition("/")
        at = next((one for one in tensors if one.name == column), tensors[0])
        raise InvalidInput(
            error.detail, pointer=f"{at.pointer}/data/{row}", code=error.specific_code
        ) from None
