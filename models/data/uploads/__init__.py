"""Files that clients upload. To read another format, add its file and its line in `_FORMATS`."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from models.data.dataset import Dataset
from models.data.inspection import inspected
from models.data.uploads.options import Limits, UploadOptions
from models.errors import InvalidInput, suggest
from models.signature import Task

__all__ = ["SUFFIXES", "TASKS", "Limits", "UploadOptions", "ingest"]

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".csv": "csv",
        ".jsonl": "jsonl",
        ".npz": "npz",
        ".parquet": "parquet",
        ".zip": "zip",
    }
)
SUFFIXES: tuple[str, ...] = tuple(_FORMATS)
TASKS: tuple[Task, ...] = get_args(Task)


def ingest(path: Path, filename: str, options: UploadOptions) -> Dataset:
    """The dataset in an uploaded file. Of the client's `filename` only the suffix is used: it says the format.

    Raises:
        InvalidInput: the file, or what the options say of it, cannot be used. Names the row, column or array.
    """
    _check_options(options)
    suffix = Path(filename).suffix.lower()
    if suffix not in _FORMATS:
        raise InvalidInput(
            f"Files ending in {suffix[:20]!r} cannot be read. {suggest(suffix[:20], SUFFIXES)}",
            pointer="/file",
        )
    reader = import_module(f"{__name__}.{_FORMATS[suffix]}")
    try:
        dataset: Dataset = inspected(reader.read(path, options))
    except InvalidInput as error:
        raise InvalidInput(
            error.detail, pointer=error.pointer or "/file", code=error.specific_code
        ) from error
    return dataset


def _check_options(options: UploadOptions) -> None:
    if options.task not in TASKS:
        raise InvalidInput(
            f"There is no task {options.task[:100]!r}. {suggest(options.task[:100], TASKS)}", pointer="/task"
        )
    for name in ("test_fraction", "validation_fraction"):
        if not 0.01 <= getattr(options, name) <= 0.9:  # NaN is not
            raise InvalidInput(f"{name} must lie between 0.01 and 0.9.", pointer=f"/{name}")
