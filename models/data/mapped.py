"""A safetensors file as arrays that lie in the file: nothing is read until it is used, and little is held to write.

Format: https://huggingface.co/docs/safetensors - 8 bytes header length (little-endian), a JSON header that gives each
tensor's dtype, shape and place, then the tensors without gaps. safetensors' own NumPy reader and writer copy every
tensor in memory; a training set may not fit.
"""

import json
import math
from collections.abc import Mapping
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from models.data.scratch import chunks, raw_bytes
from models.errors import CorruptArtifact, InvalidInput
from models.tensor_files import Shape, Size

MAX_HEADER_BYTES = 4 << 20
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_DTYPES: dict[str, np.dtype] = {"U8": np.dtype("u1"), "F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_NAMES: dict[np.dtype, str] = {dtype: name for name, dtype in _DTYPES.items()}


class _Place(BaseModel):
    """Where one tensor lies, in bytes after the header."""

    model_config = ConfigDict(extra="forbid")
    dtype: Literal["U8", "F32", "I64"]
    shape: Shape
    data_offsets: tuple[Size, Size]


class _Header(RootModel[dict[str, _Place | dict[str, str]]]):
    pass


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the tensors of a safetensors file of uint8, float32 and int64 tensors.

    The arrays are backed by the file, copy-on-write: writing to one changes neither the file nor what others see.
    (torch refuses to share read-only memory, so they are not read-only.)

    Raises:
        CorruptArtifact: the file is missing, cut short, or its header does not describe its contents.
    """
    try:
        with path.open("rb") as file:
            buffer = mmap(file.fileno(), 0, access=ACCESS_COPY)
    except (OSError, ValueError) as error:  # mmap refuses an empty file with a ValueError
        raise CorruptArtifact("The file is missing or empty.") from error
    header_bytes, header = _header(buffer)
    metadata = header.pop("__metadata__", {})
    places = {name: place for name, place in header.items() if isinstance(place, _Place)}
    if not isinstance(metadata, dict) or places.keys() != header.keys():
        raise CorruptArtifact("The file's header is not a safetensors header.")
    start = _LENGTH_BYTES + header_bytes
    _check_places(places, len(buffer) - start)
    return metadata, {name: _array(buffer, start, place) for name, place in places.items()}


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Store uint8, float32 and int64 tensors as a safetensors file, a few MiB at a time.

    The bytes are those that safetensors' own writer gives: wider dtypes first so that each tensor is aligned, then by
    name; the header ends in spaces up to a multiple of 8 bytes.

    Raises:
        InvalidInput: the header is longer than `read` takes.
    """
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    text = _header_text(metadata, ordered)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for tensor in ordered.values():
            for chunk in chunks(tensor):
                file.write(raw_bytes(chunk))


def _header_text(metadata: Mapping[str, str], ordered: Mapping[str, np.ndarray]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise InvalidInput(
            f"The names of the columns, categories and classes take {len(text)} bytes together; at most"
            f" {MAX_HEADER_BYTES} are kept. Shorten them, or leave columns out.",
            code="names_too_long",
        )
    return text


def _header(buffer: mmap) -> tuple[int, dict[str, _Place | dict[str, str]]]:
    """Length of the header in bytes, and the header."""
    size = int.from_bytes(buffer[:_LENGTH_BYTES], "little")
    if not 0 < size <= min(MAX_HEADER_BYTES, len(buffer) - _LENGTH_BYTES):
        raise CorruptArtifact("The file is cut short or is not a safetensors file.")
    try:
        raw = json.loads(buffer[_LENGTH_BYTES : _LENGTH_BYTES + size], object_pairs_hook=_unique)
        return size, _Header.model_validate(raw).root
    except (ValueError, RecursionError, ValidationError) as error:
        raise CorruptArtifact("The file's header is damaged.") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _check_places(places: dict[str, _Place], size: int) -> None:
    """The tensors fill the file from the header to the end, each with the bytes that its shape needs."""
    end = 0
    for place in sorted(places.values(), key=lambda place: place.data_offsets):
        start, stop = place.data_offsets
        if start != end or stop - start != math.prod(place.shape) * _DTYPES[place.dtype].itemsize:
            raise CorruptArtifact("The file's header does not fit its contents.")
        end = stop
    if end != size:
        raise CorruptArtifact("The file is cut short or has grown.")


def _array(buffer: mmap, start: int, place: _Place) -> np.ndarray:
    flat = np.frombuffer(
        buffer, _DTYPES[place.dtype], count=math.prod(place.shape), offset=start + place.data_offsets[0]
    )
    return np.reshape(flat, place.shape)
