"""Requests and responses of the Open Inference Protocol, as JSON and as binary tensors behind it.

Sources: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any, get_args

import numpy as np
import orjson

from app import strict_json
from app.schemas.predictions import Engine
from models.errors import InvalidInput, Malformed, NotSupported, suggest

NUMERIC: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
PLAIN: Mapping[str, set[type]] = {"b": {bool}, "f": {int, float}}
"""What JSON has for numbers of a kind; whole numbers for all others."""
BYTES = "BYTES"
DATATYPES = (*NUMERIC, "BF16", BYTES)
MOST_DIMENSIONS = 8
LENGTH_BYTES = 4
"""Of the length before each element of a binary BYTES tensor, little-endian."""
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True)
class InputTensor:
    """`data`: the JSON list, nested or flat, or the bytes of a binary tensor. `pointer` is where it stands."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: "list[Any] | bytes"
    pointer: str
    is_base64: bool = False

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """About how much there is to read."""
        return len(self.data) if isinstance(self.data, bytes) else 8 * self.size

    def array(self) -> np.ndarray:
        """The values of a numeric tensor in its shape, not to be written to. Raises InvalidInput."""
        dtype = NUMERIC[self.datatype]
        if isinstance(self.data, bytes):
            expected = self.size * dtype.itemsize
            if len(self.data) != expected:
                raise self.fault(f"has {len(self.data)} bytes; {self._described} takes {expected}")
            values = np.frombuffer(self.data, dtype)
        else:
            values = self._numbers(self._flat, dtype)
        return values.reshape(self.shape)

    def elements(self, *, is_base64: bool = False) -> list[bytes]:
        """The elements of a BYTES tensor, in row-major order; texts of JSON are base64 if the tensor or the caller says
        so. Raises InvalidInput."""
        if isinstance(self.data, bytes):
            found = [*_lengthy(self)]
        else:
            found = self._texts(self._flat, is_base64 or self.is_base64)
        if len(found) != self.size:
            raise self.fault(f"has {len(found)} elements; {self._described} takes {self.size}")
        return found

    def fault(self, detail: str, *, code: str | None = None) -> InvalidInput:
        return InvalidInput(f"Input {self.name[:80]!r} {detail}.", pointer=self.pointer, code=code)

    @property
    def _described(self) -> str:
        return f"shape {list(self.shape)} of {self.datatype}"

    @cached_property
    def _flat(self) -> list[Any]:
        level: list[Any] = self.data  # type: ignore[assignment]  # asked of JSON only
        for _ in range(MOST_DIMENSIONS):
            kinds = set(map(type, level))
            if kinds != {list}:
                break
            level = list(chain.from_iterable(level))
        if list in set(map(type, level)):
            raise self.fault("is nested unevenly: numbers and lists stand side by side")
        if len(level) != self.size:
            raise self.fault(f"has {len(level)} elements; {self._described} takes {self.size}")
        return level

    def _numbers(self, values: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
        # NumPy would take true for 1, cut fractions off and let whole numbers wrap around.
        allowed = PLAIN.get(dtype.kind, {int})
        if not set(map(type, values)) <= allowed:
            odd = next(value for value in values if type(value) not in allowed)
            raise self.fault(f"is {self.datatype} and holds {str(odd)[:40]!r}")
        try:
            with np.errstate(over="ignore"):
                found = np.array(values, dtype)
        except OverflowError:
            found = None
        if found is None or (dtype.kind == "f" and not np.isfinite(found).all()):
            raise self.fault(f"holds a number that {self.datatype} cannot")
        return found

    def _texts(self, values: list[Any], is_base64: bool) -> list[bytes]:
        if not set(map(type, values)) <= {str}:
            odd = next(value for value in values if type(value) is not str)
            raise self.fault(f"is BYTES and holds {str(odd)[:40]!r}; JSON has its elements as texts")
        if not is_base64:
            return [value.encode() for value in values]
        try:
            return [b64decode(value, validate=True) for value in values]
        except (binascii.Error, ValueError):
            raise self.fault("holds a text that is not base64") from None


def _lengthy(tensor: InputTensor) -> Iterator[bytes]:
    """Elements that have their lengths in front."""
    data, place = tensor.data, 0
    assert isinstance(data, bytes)
    while place < len(data):
        start = place + LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        if start > len(data) or place > len(data):
            raise tensor.fault("is cut short: an element ends behind its bytes")
        yield data[start:place]


@dataclass(frozen=True)
class RequestedOutput:
    """`classes`: how many of the largest values are wanted with their labels, instead of the tensor; 0: the tensor."""

    name: str
    binary: bool
    classes: int
    pointer: str


@dataclass(frozen=True)
class InferRequest:
    """`outputs` None: all of them, binary if `binary`. `raw`: the body is the one input as it is; `inputs` is empty."""

    id: str | None
    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] | None
    binary: bool
    engine: Engine
    timeout_s: float | None
    raw: bytes | None = None


@dataclass(frozen=True)
class OutputTensor:
    """`data`: an array of the datatype, or the elements of a BYTES tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: np.ndarray | Sequence[bytes]

    def binary(self) -> bytes:
        if isinstance(self.data, np.ndarray):
            return self.data.tobytes()
        return b"".join(len(one).to_bytes(LENGTH_BYTES, "little") + one for one in self.data)

    def json(self) -> Any:
        if isinstance(self.data, np.ndarray):
            return np.ascontiguousarray(self.data).ravel()
        return [one.decode() for one in self.data]


def encoded(
    head: Mapping[str, Any], outputs: Sequence[tuple[OutputTensor, bool]]
) -> tuple[bytes, int | None]:
    """A response's body, and the length of the JSON in front of binary tensors; None where there are none. Each output
    with whether it is binary."""
    described, tensors = [], []
    for output, binary in outputs:
        one: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        if binary:
            tensors.append(output.binary())
            one["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            one["data"] = output.json()
        described.append(one)
    text = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *tensors)), len(text)) if tensors else (text, None)


def parse(body: bytes, header_length: str | None) -> InferRequest:
    """A request. `header_length`: the header Inference-Header-Content-Length, the bytes of JSON in front of binary
    tensors; '0': all of the body is one tensor; None: all of it is JSON.

    Raises Malformed, InvalidInput, NotSupported.
    """
    length = _length(header_length, len(body))
    if length == 0 and header_length is not None:
        return InferRequest(None, (), None, binary=True, engine="auto", timeout_s=None, raw=body)
    text = body[:length]
    value = strict_json.loads(text)
    strict_json.refuse_duplicates_of(value, text)
    if not isinstance(value, dict):
        raise InvalidInput("The body must be an object with 'inputs'.")
    id = value.get("id")
    if id is not None and not isinstance(id, str):
        raise InvalidInput("'id' must be a text.", pointer="/id")
    parameters = _parameters(value, "")
    binary = _flag(parameters, "binary_data_output", "")
    return InferRequest(
        id,
        tuple(_inputs(value.get("inputs"), body[length:], header_length is not None)),
        _outputs(value.get("outputs"), binary),
        binary,
        _engine(parameters),
        _timeout_s(parameters),
    )


def _length(header: str | None, body: int) -> int:
    if header is None:
        return body
    if not (header.isascii() and header.isdigit()) or len(header) > 18 or int(header) > body:
        raise Malformed(
            f"Inference-Header-Content-Length is {header[:40]!r}; it must be a number of bytes, at most the body's"
            f" {body}.",
            pointer="/headers/inference-header-content-length",
        )
    return int(header)


def _inputs(given: Any, behind: bytes, is_binary: bool) -> Iterator[InputTensor]:
    """The input tensors; `behind` is what follows the JSON."""
    if not isinstance(given, list) or not given:
        raise InvalidInput("'inputs' must be a list of at least one tensor.", pointer="/inputs")
    names: set[str] = set()
    place = 0
    for index, one in enumerate(given):
        pointer = f"/inputs/{index}"
        name = _name(one, pointer)
        if name in names:
            raise InvalidInput(f"Input {name[:80]!r} is given twice.", pointer=pointer)
        names.add(name)
        datatype, shape, parameters = _datatype(one, pointer), _shape(one, pointer), _parameters(one, pointer)
        _refuse_shared_memory(parameters, pointer)
        data = one.get("data")
        size = parameters.get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise InvalidInput("'binary_data_size' must be a number of bytes.", pointer=pointer)
            if data is not None or not is_binary:
                raise InvalidInput(
                    f"Input {name[:80]!r} has 'binary_data_size': send its bytes behind the JSON, no 'data', and the"
                    " header Inference-Header-Content-Length.",
                    pointer=pointer,
                )
            if size > len(behind) - place:
                raise InvalidInput(
                    f"Input {name[:80]!r} has {size} bytes; only {len(behind) - place} follow.",
                    pointer=pointer,
                )
            data, place = behind[place : place + size], place + size
        elif not isinstance(data, list):
            raise InvalidInput(
                f"Input {name[:80]!r} has no data: give a list 'data', or binary_data_size.", pointer=pointer
            )
        is_base64 = parameters.get("content_type") == "base64"
        yield InputTensor(name, datatype, shape, data, pointer, is_base64)
    if place != len(behind):
        raise InvalidInput(
            f"{len(behind)} bytes follow the JSON, but its inputs have {place}: see 'binary_data_size'.",
            pointer="/inputs",
        )


def _name(one: Any, pointer: str) -> str:
    if not isinstance(one, dict):
        raise InvalidInput("A tensor is an object with 'name', 'shape' and 'datatype'.", pointer=pointer)
    name = one.get("name")
    if not isinstance(name, str):
        raise InvalidInput("A tensor needs a text 'name'.", pointer=f"{pointer}/name")
    return name


def _datatype(one: Mapping[str, Any], pointer: str) -> str:
    datatype = one.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise InvalidInput(
            f"Unknown datatype {str(datatype)[:40]!r}. {suggest(str(datatype)[:40], DATATYPES)}",
            pointer=f"{pointer}/datatype",
        )
    return datatype


def _shape(one: Mapping[str, Any], pointer: str) -> tuple[int, ...]:
    shape = one.get("shape")
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) <= MOST_DIMENSIONS
        or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
    ):
        raise InvalidInput("'shape' must be a list of whole numbers from 0.", pointer=f"{pointer}/shape")
    return tuple(shape)


def _outputs(given: Any, binary: bool) -> tuple[RequestedOutput, ...] | None:
    if given is None or given == []:
        return None
    if not isinstance(given, list):
        raise InvalidInput("'outputs' must be a list of tensors.", pointer="/outputs")
    found: list[RequestedOutput] = []
    for index, one in enumerate(given):
        pointer = f"/outputs/{index}"
        name = _name(one, pointer)
        if name in {other.name for other in found}:
            raise InvalidInput(f"Output {name[:80]!r} is asked for twice.", pointer=pointer)
        parameters = _parameters(one, pointer)
        _refuse_shared_memory(parameters, pointer)
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidInput("'classification' must be how many classes to return.", pointer=pointer)
        wanted = _flag(parameters, "binary_data", pointer, binary)
        found.append(RequestedOutput(name, wanted, classes, pointer))
    return tuple(found)


def _parameters(one: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    parameters = one.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("'parameters' must be an object.", pointer=f"{pointer}/parameters")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, pointer: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name!r} must be true or false.", pointer=f"{pointer}/parameters/{name}")
    return value


def _refuse_shared_memory(parameters: Mapping[str, Any], pointer: str) -> None:
    if "shared_memory_region" in parameters:
        raise NotSupported(
            "Shared memory is not supported here. Send the tensors in the body.",
            pointer=f"{pointer}/parameters/shared_memory_region",
        )


def _engine(parameters: Mapping[str, Any]) -> Engine:
    asked = parameters.get("engine", "auto")
    for engine in ENGINES:
        if asked == engine:
            return engine
    hint = suggest(str(asked)[:40], ENGINES)
    raise InvalidInput(f"Unknown engine {str(asked)[:40]!r}. {hint}", pointer="/parameters/engine")


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Triton counts it in microseconds; 0 is none."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise InvalidInput("'timeout' must be a number of microseconds.", pointer="/parameters/timeout")
    return timeout / 1e6 or None
