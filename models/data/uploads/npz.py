"""Uploads in NumPy's .npz format: arrays `x`, `y`, or `x_train`, `y_train` and, if there are, `x_test`, `y_test`,
`x_val`, `y_val`."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.uploads import npy
from models.data.uploads.archives import SteadyFile
from models.data.uploads.labels import classes_of, encode
from models.data.uploads.options import Limits, UploadOptions
from models.data.uploads.samples import check_samples, image_pixels, label_texts, table_values, target_values
from models.errors import InvalidInput, TandemError, suggest
from models.signature import Task

_SUFFIXES = ("", "_train", "_val", "_test")
_KNOWN = tuple(f"{part}{suffix}" for suffix in _SUFFIXES for part in "xy")
_WRITE = "Write it with np.savez or np.savez_compressed."


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in an .npz file.

    Raises:
        InvalidInput: names the array at fault.
    """
    if options.target is not None:
        raise InvalidInput("target names a column; in an .npz file the target is y.", pointer="/target")
    if options.task == "text-classification":
        raise InvalidInput(
            "An .npz file holds images or tables. Send texts as .jsonl, .csv or .parquet.", pointer="/task"
        )
    arrays = read_arrays(path, options.limits)
    _check_names(arrays)
    parts = {suffix: suffix for suffix in _SUFFIXES if f"x{suffix}" in arrays}
    xs = {suffix: arrays[f"x{suffix}"] for suffix in parts}
    ys = {suffix: arrays[f"y{suffix}"] for suffix in parts}
    check_samples(xs, ys)
    samples = image_pixels(xs) if options.task == "image-classification" else table_values(xs, options.limits)
    classes, targets = _targets(ys, options)
    splits = {suffix: Split(samples[suffix], targets[suffix]) for suffix in parts}
    task: Task = options.task  # type: ignore[assignment]  # checked by ingest
    return assemble(
        task,
        splits["_train"] if "_train" in splits else splits[""],
        classes=classes,
        columns=[f"x{number}" for number in range(samples[next(iter(parts))].shape[1])],
        validation=splits.get("_val"),
        test=splits.get("_test"),
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        folder=options.folder,
    )


def read_arrays(path: Path, limits: Limits) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, their headers all checked before the first one is read.

    Raises:
        InvalidInput: not a zip archive of .npy files, damaged, or beyond the limits.
    """
    try:
        with SteadyFile(path) as file, zipfile.ZipFile(file) as archive:
            entries = _entries(archive)
            headers = {name: _header(archive, entry, name) for name, entry in entries.items()}
            _check_size(headers, entries, limits)
            return {name: _data(archive, entries[name], headers[name], name) for name in entries}
    except TandemError:
        raise
    # Damaged archives end in any of these: unknown methods are NotImplementedError, passwords RuntimeError.
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise InvalidInput(
            f"The file is not a readable .npz archive. {_WRITE}",
            pointer="/file",
        ) from error


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found = archive.infolist()
    entries = {
        entry.filename.removesuffix(".npy"): entry for entry in found if entry.filename.endswith(".npy")
    }
    for entry in found:
        name = entry.filename.removesuffix(".npy")
        if name not in _KNOWN or not entry.filename.endswith(".npy"):
            shown = ascii(name[:40])
            raise InvalidInput(f"Unknown array {shown}. {suggest(name[:40], _KNOWN)}", pointer="/file")
        # NumPy writes no other; zipfile unpacks the others with no bound on memory.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput(
                f"Array {name!r} is compressed in a way that is not read. {_WRITE}", pointer="/file"
            )
    if len(entries) != len(found):
        raise InvalidInput("The archive holds two arrays of the same name.", pointer="/file")
    return entries


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> npy.Header:
    with archive.open(entry) as file:
        header = npy.read_header(file, name)
    if header.offset + header.data_bytes != entry.file_size:
        raise InvalidInput(f"Array {name!r} does not hold what its header declares.", pointer="/file")
    return header


def _check_size(
    headers: Mapping[str, npy.Header], entries: Mapping[str, zipfile.ZipInfo], limits: Limits
) -> None:
    expanded = sum(header.data_bytes for header in headers.values())
    packed = sum(entry.compress_size for entry in entries.values())
    if expanded > limits.expanded_bytes:
        raise InvalidInput(
            f"The arrays take {expanded} bytes when unpacked; at most {limits.expanded_bytes} are taken.",
            pointer="/file",
            code="too_large",
        )
    if expanded > max(limits.expansion_free_bytes, limits.expansion * packed):
        raise InvalidInput(
            f"The arrays are more than {limits.expansion} times larger than the archive. Use np.savez instead of "
            "np.savez_compressed.",
            pointer="/file",
            code="too_large",
        )


def _data(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, header: npy.Header, name: str) -> np.ndarray:
    with archive.open(entry) as file:
        file.read(header.offset)
        return npy.read_data(file, header, name)


def _check_names(arrays: Mapping[str, np.ndarray]) -> None:
    """Each x has its y, and the training rows are called `x` or `x_train`, not both."""
    for name in arrays:
        partner = ("y" if name[0] == "x" else "x") + name[1:]
        if partner not in arrays:
            raise InvalidInput(f"There is an array {name!r} but no {partner!r}.", pointer="/file")
    if ("x" in arrays) == ("x_train" in arrays) or ("x" in arrays and len(arrays) > 2):
        raise InvalidInput(
            "Name the arrays x and y, or x_train and y_train with x_test, y_test, x_val and y_val as you have them.",
            pointer="/file",
        )


def _targets(
    ys: Mapping[str, np.ndarray], options: UploadOptions
) -> tuple[tuple[str, ...] | None, dict[str, np.ndarray]]:
    """Classes and indices into them, or None and the values to predict."""
    if options.task == "tabular-regression":
        return None, {suffix: target_values(y, f"y{suffix}") for suffix, y in ys.items()}
    texts = {suffix: label_texts(y, f"y{suffix}") for suffix, y in ys.items()}
    classes = classes_of([label for labels in texts.values() for label in labels], "y", options.limits)
    return classes, {suffix: encode(labels, classes) for suffix, labels in texts.items()}
