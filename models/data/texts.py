"""Many texts as two arrays, so that they can lie in a file: all their bytes, and where each one ends."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

import numpy as np


class Texts(Sequence[str]):
    """N texts. `data`: uint8 [bytes], their UTF-8 one after the other. `offsets`: int64 [N + 1]; text i is
    `data[offsets[i] : offsets[i + 1]]`. Both may be memory-mapped: only the texts that are asked for are read.

    Raises:
        ValueError: the offsets do not divide the data.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray) -> None:
        if (data.dtype.name, data.ndim, offsets.dtype.name, offsets.ndim) != ("uint8", 1, "int64", 1):
            raise ValueError("texts are uint8 [bytes] with int64 offsets [N + 1]")
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data):
            raise ValueError("the offsets do not begin at 0 and end with the data")
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError("the offsets do not ascend")
        self.data = data
        self.offsets = offsets

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The texts of an iterable, taken one at a time: beyond them it needs about an eighth more memory.

        Raises:
            UnicodeEncodeError: a text holds half of a surrogate pair.
        """
        data, offsets = bytearray(), array("q", (0,))
        for text in texts:
            data += text.encode()
            offsets.append(len(data))
        return cls(np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64))

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each text, int64 [N]."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.offsets.nbytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, rows: int | np.integer) -> str: ...
    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> Self: ...
    def __getitem__(self, rows: int | np.integer | slice | np.ndarray) -> str | Self:
        """One text; or those of a slice, of row numbers (int [M]) or of a mask (bool [N])."""
        if isinstance(rows, int | np.integer):
            return self._text(range(len(self))[rows])
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return self._taken(np.arange(len(self))[rows])

    def __iter__(self) -> Iterator[str]:
        return map(self._text, range(len(self)))

    def _text(self, row: int) -> str:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def _taken(self, rows: np.ndarray) -> Self:
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        data = np.empty(offsets[-1], np.uint8)
        # A copy per text: gathering all at once would need an index of eight bytes for each byte of text.
        places = zip(offsets[:-1].tolist(), offsets[1:].tolist(), starts.tolist(), ends.tolist(), strict=True)
        for to, to_end, start, end in places:
            data[to:to_end] = self.data[start:end]
        return type(self)(data, offsets)
