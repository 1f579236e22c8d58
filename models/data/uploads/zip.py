"""Uploads of images in a zip archive of class folders, or of `train`, `test` and `validation` folders over them.

Images are decoded once, in parallel, to one size and one number of channels. Nothing is ever written under a name
from the archive.
"""

import os
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.scratch import LARGE_BYTES, ScratchRows
from models.data.uploads.archives import SteadyFile, check_entries, fault
from models.data.uploads.labels import classes_of, encode
from models.data.uploads.options import Limits, UploadOptions
from models.errors import InvalidInput, TandemError
from models.preprocessing import ImagePreprocessing
from models.preprocessing.decoding import ImageHeader, decode, read_header

LARGEST_DEFAULT = 224
"""Pixels on a side of images whose size nobody has said: what most published networks were trained on."""
LARGEST_FILE_BYTES = 64 << 20
MOST_FILES = 2_000_000
_DIRECTORY_BYTES = 512 << 20
_AHEAD = 8
_SPLITS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_JUNK = ("Thumbs.db", "desktop.ini")
# Damaged archives end in any of these: unknown methods are NotImplementedError, passwords RuntimeError.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError, NotImplementedError)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Item:
    """One image of the archive. `split` is None where there are no split folders."""

    entry: zipfile.ZipInfo
    split: str | None
    label: str


@dataclass(frozen=True)
class Target:
    """What every image becomes."""

    height: int
    width: int
    channels: int


def read(path: Path, options: UploadOptions) -> Dataset:
    """The dataset in a zip archive of images.

    Images of different sizes become the size that `options` say, else the median height and width, but no more than
    LARGEST_DEFAULT.

    Raises:
        InvalidInput: names the file in the archive at fault.
    """
    _check_options(options)
    with _opened(path) as archive:
        found = archive.infolist()
        if len(found) > MOST_FILES:
            raise InvalidInput(f"The archive holds more than {MOST_FILES} files.", pointer="/file")
        check_entries(found, options.limits)
        items = _items(found)
        target = _target(archive, items, options)
        _check_size(target, len(items), options.limits)
        classes = classes_of([item.label for item in items], "The archive", options.limits)
        with ThreadPoolExecutor(_threads()) as threads:
            splits = {
                name: _split(threads, archive, part, classes, target, options)
                for name, part in _parts(items).items()
            }
    dataset = assemble(
        "image-classification",
        splits["train"],
        classes=classes,
        validation=splits.get("validation"),
        test=splits.get("test"),
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        folder=options.folder,
    )
    assert isinstance(dataset.preprocessing, ImagePreprocessing)
    policy = options.resize or "stretch"
    return replace(dataset, preprocessing=dataset.preprocessing.model_copy(update={"resize": policy}))


def _check_options(options: UploadOptions) -> None:
    if options.task != "image-classification":
        raise InvalidInput(
            "A .zip file holds images. Send tables and texts as .csv, .jsonl or .parquet.", pointer="/task"
        )
    for option in ("target", "text", "columns"):
        if getattr(options, option):
            raise InvalidInput(f"{option} is for files with columns; in a .zip the folders are the classes.",
                               pointer=f"/{option}")  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with SteadyFile(path, _DIRECTORY_BYTES) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except TandemError:
        raise
    except _DAMAGED as error:
        raise InvalidInput(
            "The file is not a readable zip archive. Pack the folder again.", pointer="/file"
        ) from error


# --- which images there are -----------------------------------------------------------------------------------------


def _items(found: Sequence[zipfile.ZipInfo]) -> list[Item]:
    """The images with their split and class, in the order of their names."""
    files = {
        _path(entry.filename): entry for entry in found if not entry.is_dir() and not _is_junk(entry.filename)
    }
    if not files:
        raise InvalidInput("The archive holds no files.", pointer="/file")
    above = _folders_above(list(files))
    items = [_item(path[above:], entry) for path, entry in sorted(files.items())]
    first = items[0]
    odd = next((item for item in items if (item.split is None) != (first.split is None)), None)
    if odd is not None:
        raise fault(
            odd.entry.filename,
            f"lies at another depth than {first.entry.filename[:200]!a}. Use <class>/<image> or"
            " train/<class>/<image> for all",
        )
    if first.split is not None and not any(item.split == "train" for item in items):
        raise InvalidInput("The archive has split folders, but none called 'train'.", pointer="/file")
    _check_no_empty_folder(found, items, above)
    return items


def _path(name: str) -> tuple[str, ...]:
    """The parts of a name, without the "./" that some tools write before every one."""
    parts = name.split("/")
    return tuple(parts[next((place for place, part in enumerate(parts) if part != "."), len(parts)) :])


def _is_junk(name: str) -> bool:
    """What systems put into archives without being asked."""
    parts = _path(name)
    return (
        not any(parts)
        or parts[0] == "__MACOSX"
        or parts[-1] in _JUNK
        or any(part.startswith(".") for part in parts)
    )


def _folders_above(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders stand above the classes or the splits: those that all files share."""
    above = 0
    while (
        all(len(path) - above > 2 for path in paths)
        and len(names := {path[above] for path in paths}) == 1
        and not names <= _SPLITS.keys()
    ):
        above += 1
    return above


def _item(path: tuple[str, ...], entry: zipfile.ZipInfo) -> Item:
    if len(path) == 2:
        return Item(entry, None, path[0])
    if len(path) == 3 and path[0].lower() in _SPLITS:
        return Item(entry, _SPLITS[path[0].lower()], path[1])
    raise fault(entry.filename, "is not in a class folder. Use <class>/<image> or train/<class>/<image>")


def _check_no_empty_folder(found: Sequence[zipfile.ZipInfo], items: Sequence[Item], above: int) -> None:
    """A class without images is a mistake: it would look like a class that is known."""
    depth = above + (1 if items[0].split is None else 2)
    labels = {item.label for item in items}
    for entry in found:
        parts = tuple(part for part in _path(entry.filename) if part)
        if (
            entry.is_dir()
            and not _is_junk(entry.filename)
            and len(parts) == depth
            and parts[-1] not in labels
        ):
            raise fault(entry.filename, "is a class folder without images. Fill it or leave it out")


def _parts(items: Sequence[Item]) -> dict[str, list[Item]]:
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(item.split or "train", []).append(item)
    return parts


# --- what they become -----------------------------------------------------------------------------------------------


def _target(archive: zipfile.ZipFile, items: Sequence[Item], options: UploadOptions) -> Target:
    """The size and the channels, from the options or else from what the images say of themselves."""
    if options.size is not None and options.channels is not None:
        return Target(*options.size, options.channels)
    with ThreadPoolExecutor(_threads()) as threads:
        headers = list(_in_order(threads, partial(_header, archive), items))
    height, width = options.size or _usual_size(headers)
    return Target(height, width, options.channels or _channels(items, headers))


def _usual_size(headers: Sequence[ImageHeader]) -> tuple[int, int]:
    sizes = np.array([(header.height, header.width) for header in headers])
    if (sizes == sizes[0]).all():
        return int(sizes[0, 0]), int(sizes[0, 1])
    height, width = np.minimum(np.median(sizes, axis=0).round().astype(int), LARGEST_DEFAULT)
    return int(height), int(width)


def _channels(items: Sequence[Item], headers: Sequence[ImageHeader]) -> int:
    kinds = Counter(header.grey for header in headers)
    if len(kinds) == 1:
        return 1 if headers[0].grey else 3
    rare = min(kinds, key=lambda grey: kinds[grey])
    odd = next(item for item, header in zip(items, headers, strict=True) if header.grey is rare)
    raise fault(
        odd.entry.filename,
        f"is {'grey' if rare else 'coloured'}, and most images are {'coloured' if rare else 'grey'}. Send channels=3 to"
        " take all as coloured, or channels=1 to take all as grey",
    )


def _check_size(target: Target, count: int, limits: Limits) -> None:
    size = count * target.height * target.width * target.channels
    if size > limits.pixel_bytes:
        raise InvalidInput(
            f"{count} images of {target.height} by {target.width} pixels take {size} bytes; at most"
            f" {limits.pixel_bytes} are taken. Send a smaller size.",
            pointer="/size",
            code="too_large_unpacked",
        )


def _header(archive: zipfile.ZipFile, item: Item) -> ImageHeader:
    return _naming(item, lambda data: read_header(BytesIO(data)), archive)


def _split(
    threads: ThreadPoolExecutor,
    archive: zipfile.ZipFile,
    items: Sequence[Item],
    classes: Sequence[str],
    target: Target,
    options: UploadOptions,
) -> Split:
    """The images of a split, decoded; in a nameless file where they take much room."""
    shape = (target.height, target.width, target.channels)
    y = encode([item.label for item in items], classes)
    pixels = _in_order(threads, partial(_pixels, archive, target, options), items)
    if options.folder is None or len(items) * int(np.prod(shape)) <= LARGE_BYTES:
        x = np.empty((len(items), *shape), np.uint8)
        for index, image in enumerate(pixels):
            x[index] = image
        return Split(x, y)
    with ScratchRows(options.folder, len(items), shape, np.dtype(np.uint8)) as rows:
        for index, image in enumerate(pixels):
            rows.write(index, image[np.newaxis])
        return Split(rows.array(), y)


def _pixels(archive: zipfile.ZipFile, target: Target, options: UploadOptions, item: Item) -> np.ndarray:
    def decoded(data: bytes) -> np.ndarray:
        return decode(
            data,
            height=target.height,
            width=target.width,
            channels=target.channels,
            policy=options.resize or "stretch",
        )

    return _naming(item, decoded, archive)


def _naming(item: Item, use: Callable[[bytes], Found], archive: zipfile.ZipFile) -> Found:
    """What `use` makes of the file's bytes; whatever is wrong with them names the file."""
    name, size = item.entry.filename, item.entry.file_size
    if size > LARGEST_FILE_BYTES:
        raise fault(name, f"has {size} bytes; at most {LARGEST_FILE_BYTES} are taken for an image")
    try:
        with archive.open(item.entry) as file:
            data = file.read(size + 1)
    except _DAMAGED as error:
        raise fault(name, "is damaged in the archive. Pack the folder again") from error
    if len(data) != size:
        raise fault(name, "does not have the size that the archive declares. Pack the folder again")
    try:
        return use(data)
    except InvalidInput as error:
        raise InvalidInput(
            f"{name[:200]!a}: {error.detail}", pointer="/file", code=error.specific_code
        ) from error


def _in_order(
    threads: ThreadPoolExecutor, work: Callable[[Item], Found], items: Sequence[Item]
) -> Iterator[Found]:
    """The results in order, a few pieces of work ahead of the one that is taken."""
    remaining = iter(items)
    waiting = deque(threads.submit(work, item) for item in islice(remaining, _AHEAD * _threads()))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(threads.submit(work, item) for item in islice(remaining, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


def _threads() -> int:
    """Pillow decodes outside of Python's lock."""
    return max(2, os.cpu_count() or 1)
