"""torchvision's own downloaders, which check what they fetch by hash."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from models.data.dataset import Split
from models.errors import Unavailable


def downloaded(torchvision_name: str, root: Path, *, name: str) -> tuple[Split, Split]:
    """Training and test rows of torchvision's class of that name, fetched into `root` unless they lie there.

    Imports torchvision, and with it torch: call this only where a framework may be imported.

    Raises:
        Unavailable: the download failed; what to do is in the message.
    """
    # By name, so that nothing that imports this module imports a framework.
    source = getattr(import_module("torchvision.datasets"), torchvision_name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _rows(source(root, train=True, download=True)), _rows(source(root, train=False, download=True))
    except (OSError, RuntimeError, EOFError) as error:  # no network, a full disk, a hash that differs
        raise Unavailable(
            f"The files of {name!r} are not in the datasets folder and could not be downloaded. Allow the download, "
            f"or put the publisher's files into a folder named {name!r} in the datasets folder.",
            pointer="/dataset",
        ) from error


def folder_named(root: Path, name: str) -> list[Path]:
    """`root` itself when it bears the dataset's name: MNIST and Fashion-MNIST name their files alike, so files
    right in a folder of another name could be either."""
    return [root] if root.name.lower() == name else []


def _rows(found: Any) -> Split:
    pixels = np.asarray(found.data)
    return Split(pixels if pixels.ndim == 4 else pixels[..., np.newaxis], np.asarray(found.targets, np.int64))
