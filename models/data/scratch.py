"""Arrays that need more room than memory has: they lie in a nameless file on disk, and go when nothing uses them.

What is read through a memory map counts as this process's memory until the system takes it back, which it does late.
So these arrays are written past the map, and who reads one from end to end gives back what it has read.
"""

import errno
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from models.errors import Unavailable

CHUNK_BYTES = 4 << 20
LARGE_BYTES = 64 << 20
"""What is smaller stays in memory."""
FULL = "The server's disk is full. Try again when there is room."


class _Room(mmap.mmap):
    """A map whose file has all that was written, so that its pages may be given back."""


class ScratchRows:
    """N rows of one shape and dtype: written in any order and from any thread, then read as one array.

    The file lies in `folder` but has no name there: whatever ends the process, nothing is left behind.

    Raises:
        Unavailable: the disk has less room than this.
    """

    def __init__(self, folder: Path, count: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._shape, self._dtype = (count, *shape), dtype
        self._row_bytes = math.prod(shape) * dtype.itemsize
        if (
            count * self._row_bytes > shutil.disk_usage(folder).free
        ):  # now, and not when hours of work have filled it
            raise Unavailable(FULL)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._file.truncate(max(1, count * self._row_bytes))  # an empty file cannot be mapped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Put `rows`, [M, *shape], at row number `start` and after.

        Raises:
            Unavailable: the disk is full.
        """
        left = raw_bytes(rows)
        place = start * self._row_bytes
        try:
            while left:
                done = os.pwrite(self._file.fileno(), left, place)
                left, place = left[done:], place + done
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Unavailable(FULL) from error

    def array(self) -> np.ndarray:
        """All rows, [N, *shape], memory-mapped; the rows that were never written are 0."""
        room = _Room(self._file.fileno(), 0)
        flat = np.frombuffer(room, self._dtype, count=math.prod(self._shape))
        return flat.reshape(self._shape)


def chunks(x: np.ndarray) -> Iterator[np.ndarray]:
    """`x` along its first axis, a few MiB at a time; what lies in scratch leaves the memory after use."""
    step = _step(x)
    for start in range(0, len(x), step):
        chunk = x[start : start + step]
        yield chunk
        release(chunk)


def take(x: np.ndarray, rows: np.ndarray, folder: Path | None = None) -> np.ndarray:
    """`x[rows]`; where that is large and a folder is given, gathered there and not in memory.

    Raises:
        Unavailable: the disk is full.
    """
    if folder is None or len(rows) * math.prod(x.shape[1:]) * x.dtype.itemsize <= LARGE_BYTES:
        return np.asarray(x[rows])
    step = _step(x)
    with ScratchRows(folder, len(rows), x.shape[1:], x.dtype) as found:
        for start in range(0, len(rows), step):
            found.write(start, x[rows[start : start + step]])
            release(x)
        return found.array()


def raw_bytes(x: np.ndarray) -> memoryview:
    """The bytes of an array in C order, copied only where they do not lie in that order."""
    return memoryview(np.ascontiguousarray(x).reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # see npy.py


def release(x: np.ndarray) -> None:
    """Give back the memory that reading `x` has taken, if it lies in scratch; it is read again when it is used."""
    room = _map_of(x)
    if not isinstance(room, _Room) or not x.size:
        return
    low, high = np.lib.array_utils.byte_bounds(x)
    start = (low - _address(room)) // mmap.PAGESIZE * mmap.PAGESIZE
    room.madvise(mmap.MADV_DONTNEED, start, high - _address(room) - start)


def read_ahead(x: np.ndarray, rows: np.ndarray) -> None:
    """Have the system fetch these rows of `x` from the disk while we do something else, if they lie in a file."""
    room = _map_of(x)
    if not isinstance(room, mmap.mmap) or not x.flags.c_contiguous:
        return
    size, first = x[0].nbytes, x.ctypes.data - _address(room)
    for begin in (first + size * rows.ravel().astype(np.int64)).tolist():
        start = begin // mmap.PAGESIZE * mmap.PAGESIZE
        room.madvise(mmap.MADV_WILLNEED, start, begin + size - start)


def _map_of(x: np.ndarray) -> object:
    """The map that `x` is a view of, if it is one."""
    base: object = x
    while isinstance(base, np.ndarray):
        base = base.base
    return getattr(base, "obj", base)  # NumPy keeps a view of the map


def _address(room: mmap.mmap) -> int:
    return np.frombuffer(room, np.uint8).ctypes.data


def _step(x: np.ndarray) -> int:
    """How many rows of `x` are a chunk."""
    return max(1, CHUNK_BYTES // max(1, math.prod(x.shape[1:]) * x.dtype.itemsize))
