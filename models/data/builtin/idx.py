"""Image sets in MNIST's IDX files, plain or gzipped: read from a folder, else downloaded by torchvision.

Format: two zero bytes, the type (8 is uint8), the number of dimensions, each dimension as a big-endian 32-bit
number, then the values. Source: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
import zlib
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from models.data.assembly import assemble
from models.data.builtin.download import downloaded, folder_named
from models.data.builtin.source import Builtin, image_classes
from models.data.dataset import Dataset, Split, Splits
from models.errors import InvalidInput

_UINT8 = 8
_MAX_BYTES = 1 << 30


def idx_images(
    name: str,
    title: str,
    *,
    torchvision_name: str,
    classes: tuple[str, ...],
    splits: Splits | None = None,
) -> Builtin:
    """A set of 28x28 grey images; MNIST's own sizes unless `splits` says otherwise."""
    splits = splits or Splits(train=54_000, validation=6_000, test=10_000)
    return Builtin(
        name=name,
        title=title,
        description=image_classes(28, 28, 1, classes, splits),
        reader=partial(_read, name, torchvision_name, classes),
    )


def _read(name: str, torchvision_name: str, classes: tuple[str, ...], root: Path) -> Dataset:
    places = [root / torchvision_name / "raw", root / name, *folder_named(root, name)]
    folder = next((place for place in places if _file(place, "train-images-idx3-ubyte")), None)
    if folder is None:
        train, test = downloaded(torchvision_name, root, name=name)
    else:
        train, test = (_labelled(folder, part, len(classes)) for part in ("train", "t10k"))
    return assemble("image-classification", train, classes=classes, test=test)


def _labelled(folder: Path, part: str, classes: int) -> Split:
    x = read_idx(_needed(folder, f"{part}-images-idx3-ubyte"), dimensions=3)
    y = read_idx(_needed(folder, f"{part}-labels-idx1-ubyte"), dimensions=1)
    if len(x) != len(y) or not len(y) or y.max() >= classes:
        raise InvalidInput(
            f"The {part} images and labels do not belong together: {len(x)} images, {len(y)} labels."
        )
    return Split(x[..., np.newaxis], y.astype(np.int64))


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _needed(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    if path is None:
        raise InvalidInput(f"The dataset's folder has no file {name} or {name}.gz.", pointer="/dataset")
    return path


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an IDX file; a name that ends in `.gz` is unpacked.

    Raises:
        InvalidInput: not an IDX file of uint8 in so many dimensions, or cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, dimensions)  # type: ignore[arg-type]  # both are binary files
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InvalidInput(f"{path.name} is damaged: {error}.", pointer="/dataset") from error


def _parse(file: BinaryIO, dimensions: int) -> np.ndarray:
    if file.read(4) != bytes((0, 0, _UINT8, dimensions)):
        raise ValueError(f"it is not an IDX file of uint8 in {dimensions} dimension(s)")
    shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(dimensions))
    size = math.prod(shape)
    if size > _MAX_BYTES:
        raise ValueError(f"it claims to hold {size} values")
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"it does not hold the {size} values that its header claims")
    return np.frombuffer(data, np.uint8).reshape(shape)
