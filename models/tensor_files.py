"""Safetensors files as Tandem writes and reads them: equal tensors give equal bytes, and none is held in memory twice.

Format: https://huggingface.co/docs/safetensors - 8 bytes length of the header (little-endian), a JSON header that gives
each tensor's dtype, shape and place, then the tensors without gaps. The library itself writes several entries of
metadata in no fixed order, copies every tensor when it writes, and gives NumPy no bfloat16.
"""

import json
from collections.abc import Mapping
from math import prod
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

LARGEST_HEADER_BYTES = 32 * 1024 * 1024
"""Of a file that is read. A tokenizer in the metadata takes a few megabytes."""
LENGTH_BYTES = 8
ALIGNMENT = 8

Size = Annotated[int, Field(ge=0, le=2**48)]
Shape = Annotated[list[Size], Field(max_length=8)]
"""Bounded: a stranger's header may list so many and so large numbers that their product takes minutes."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


class _Place(BaseModel):
    """Where one tensor lies, in bytes after the header."""

    model_config = ConfigDict(extra="forbid", strict=True)
    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
    shape: Shape
    data_offsets: Annotated[list[Size], Field(min_length=2, max_length=2)]


def write(tensors: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str]) -> None:
    """Write the file, tensor by tensor. Wide dtypes come first, so that each tensor lies aligned."""
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in ordered:
        start, end = end, end + tensors[name].nbytes
        dtype = _NAMES[tensors[name].dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for name in ordered:
            file.write(_bytes(tensors[name]))


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the tensors; bfloat16 becomes float32, every other dtype stays.

    The arrays lie in the file, copy-on-write: writing to one changes neither the file nor what others see.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is cut short or not a safetensors file.
    """
    buffer = _mapped(path)
    start, header = _header(buffer)
    metadata = _metadata(header)
    places = {name: _place(name, place) for name, place in header.items()}
    _check_places(places, len(buffer) - start)
    return metadata, {name: _array(buffer, start, place) for name, place in places.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Only the metadata. Raises OSError, ValueError."""
    return _metadata(_header(_mapped(path))[1])


def _bytes(array: np.ndarray) -> memoryview:
    # np.ascontiguousarray would do too, but a transposed view must be laid out anew before its bytes are taken.
    flat = np.asarray(array, order="C").astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1)
    return flat.view(np.uint8).data


def _mapped(path: Path) -> mmap:
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_COPY)  # of an empty file it raises a ValueError


def _header(buffer: mmap) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and the header."""
    size = int.from_bytes(buffer[:LENGTH_BYTES], "little")
    if len(buffer) < LENGTH_BYTES or not 0 < size <= len(buffer) - LENGTH_BYTES:
        raise ValueError("it is cut short or is not a safetensors file")
    if size > LARGEST_HEADER_BYTES:
        raise ValueError(f"its header claims {size} bytes; at most {LARGEST_HEADER_BYTES} are read")
    try:
        header = json.loads(buffer[LENGTH_BYTES : LENGTH_BYTES + size], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is damaged: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    return LENGTH_BYTES + size, header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts")
    return metadata


def _place(name: str, place: object) -> _Place:
    try:
        return _Place.model_validate(place)
    except ValidationError:
        raise ValueError(f"its header describes {name[:100]!r} in a way that is not known here") from None


def _check_places(places: Mapping[str, _Place], size: int) -> None:
    """The tensors fill the file from the header to the end, each with the bytes that its shape needs."""
    end = 0
    for place in sorted(places.values(), key=lambda place: place.data_offsets):
        start, stop = place.data_offsets
        if start != end or stop - start != prod(place.shape) * _DTYPES[place.dtype].itemsize:
            raise ValueError("its header does not fit its contents")
        end = stop
    if end != size:
        raise ValueError("it is cut short, or longer than its header says")


def _array(buffer: mmap, start: int, place: _Place) -> np.ndarray:
    dtype, count = _DTYPES[place.dtype], prod(place.shape)
    flat: np.ndarray = np.frombuffer(buffer, dtype, count=count, offset=start + place.data_offsets[0])
    if place.dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return (flat if flat.flags.aligned else flat.copy()).reshape(place.shape)
