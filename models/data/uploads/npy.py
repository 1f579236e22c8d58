"""One array in NumPy's .npy format, read with its declared size known before any memory is taken.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. `np.load` is not used: it allocates
what the header claims before it has looked at the data.
"""

import ast
import math
import re
from dataclasses import dataclass
from typing import IO

import numpy as np

from models.errors import InvalidInput

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000
_MAX_DIMENSIONS = 8
# Booleans, whole numbers, floats, texts and bytes: nothing that holds Python objects, structures or dates.
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[US][1-9][0-9]{0,5})")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a .npy file declares. `offset` is the length of the header in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], name: str) -> Header:
    """The header at the start of a .npy file.

    Raises:
        InvalidInput: names the array.
    """
    start = file.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) == 8 and start[:6] == _MAGIC else None
    if width is None:
        raise InvalidInput(f"Array {name!r} is not in NumPy's .npy format.", pointer="/file")
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER_BYTES:
        raise InvalidInput(f"The header of array {name!r} is too long.", pointer="/file")
    shape, dtype, fortran_order = _parse(file.read(length), name)
    return Header(shape, dtype, fortran_order, 8 + width + length)


def read_data(file: IO[bytes], header: Header, name: str) -> np.ndarray:
    """The array itself; `file` stands behind the header and must end with the array.

    Raises:
        InvalidInput: there are fewer or more bytes than the header declares.
    """
    flat = np.empty(math.prod(header.shape), header.dtype)
    view = memoryview(flat.view(np.uint8))  # type: ignore[arg-type]  # NumPy declares its buffer from 3.12 on
    done = 0
    while done < len(view) and (chunk := file.read(min(_CHUNK, len(view) - done))):
        view[done : done + len(chunk)] = chunk
        done += len(chunk)
    if done != len(view) or file.read(1):
        raise InvalidInput(f"Array {name!r} does not hold what its header declares.", pointer="/file")
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def _parse(text: bytes, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    try:
        found = ast.literal_eval(text.decode("latin-1").strip())
        shape, descr, fortran_order = found["shape"], found["descr"], found["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise InvalidInput(f"The header of array {name!r} is damaged.", pointer="/file") from None
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise InvalidInput(
            f"Array {name!r} holds objects, structures or another type that is not read. Store numbers or texts: "
            "np.savez(..., x=x.astype('float32')).",
            pointer="/file",
        )
    if not _is_shape(shape) or not isinstance(fortran_order, bool):
        raise InvalidInput(f"The header of array {name!r} is damaged.", pointer="/file")
    return shape, np.dtype(descr), fortran_order


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 1 << 48 for size in shape)
    )
