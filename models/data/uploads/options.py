"""What the sender of a file says about it, and what we allow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.data.assembly import DEFAULT_TEST_FRACTION
from models.data.splits import VALIDATION_FRACTION
from models.preprocessing.options import Resize

ColumnKind = Literal["numeric", "categorical", "ignore"]


@dataclass(frozen=True)
class Limits:
    """The largest upload that is taken in. An archive is measured by what its headers declare, before unpacking;
    `pixel_bytes` is what its images may take once they have their size."""

    expanded_bytes: int = 4 << 30
    expansion: int = 200
    expansion_free_bytes: int = 64 << 20
    pixel_bytes: int = 64 << 30
    columns: int = 4096
    classes: int = 10_000
    name_characters: int = 200
    record_characters: int = 1 << 20


@dataclass(frozen=True)
class UploadOptions:
    """`target` names the column to predict, and `text` the one that holds the text (files with columns only).
    `columns` overrules what a column was taken for. `size` (height, width), `resize` and `channels` say how images of
    different sizes and kinds become equal. `test_fraction` of all rows is used when the file has no test rows, and
    `validation_fraction` of the others when it has none to validate. `folder` is where what is too large for memory may
    lie; None keeps everything in memory."""

    task: str
    target: str | None = None
    text: str | None = None
    columns: Mapping[str, ColumnKind] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    resize: Resize | None = None
    channels: Literal[1, 3] | None = None
    test_fraction: float = DEFAULT_TEST_FRACTION
    validation_fraction: float = VALIDATION_FRACTION
    limits: Limits = field(default_factory=Limits)
    folder: Path | None = None
