"""CIFAR's image sets: the binary version from a folder, else the archive that torchvision downloads and checks.

Binary format: each record is the label byte(s), then 3072 bytes: 32x32 red, then green, then blue, row by row.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
The python version is a pickle. We never read one; torchvision does, after comparing each file with its known hash.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from models.data.assembly import assemble
from models.data.builtin.download import downloaded, folder_named
from models.data.builtin.source import Builtin, image_classes
from models.data.dataset import Dataset, Split, Splits
from models.errors import InvalidInput

_PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Where one of the sets lies: torchvision's class, and folder and files of the binary version."""

    torchvision_name: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_bytes: int


def cifar_images(
    name: str, title: str, *, layout: Layout, classes: tuple[str, ...], splits: Splits | None = None
) -> Builtin:
    """A set of 32x32 colour images; CIFAR's own sizes unless `splits` says otherwise."""
    splits = splits or Splits(train=45_000, validation=5_000, test=10_000)
    return Builtin(
        name=name,
        title=title,
        description=image_classes(32, 32, 3, classes, splits),
        reader=partial(_read, name, layout, classes),
    )


def _read(name: str, layout: Layout, classes: tuple[str, ...], root: Path) -> Dataset:
    places = [root / layout.folder, root / name, root / name / layout.folder, *folder_named(root, name)]
    folder = next((place for place in places if (place / layout.train[0]).is_file()), None)
    if folder is None:
        train, test = downloaded(layout.torchvision_name, root, name=name)
    else:
        train, test = (_records(folder, files, layout.label_bytes) for files in (layout.train, layout.test))
    if max(train.y.max(), test.y.max()) >= len(classes):
        raise InvalidInput(
            f"The files found for {name!r} hold labels that it does not have.", pointer="/dataset"
        )
    return assemble("image-classification", train, classes=classes, test=test)


def _records(folder: Path, files: tuple[str, ...], label_bytes: int) -> Split:
    parts = [read_records(folder / file, label_bytes) for file in files]
    return Split(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))


def read_records(path: Path, label_bytes: int) -> Split:
    """The images and labels in one file of the binary version; of several label bytes the last counts.

    Raises:
        InvalidInput: the file is missing, empty or cut short.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InvalidInput(
            f"The dataset's folder has no readable file {path.name}.", pointer="/dataset"
        ) from error
    record = label_bytes + _PIXEL_BYTES
    if not data.size or data.size % record:
        raise InvalidInput(f"{path.name} is cut short or not in CIFAR's binary format.", pointer="/dataset")
    records = data.reshape(-1, record)
    pixels = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(pixels), records[:, label_bytes - 1].astype(np.int64))
