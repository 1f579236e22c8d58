"""1797 handwritten digits, 8x8 grey pixels; inside scikit-learn's wheel.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from pathlib import Path

import numpy as np

from models.data.assembly import assemble
from models.data.builtin.source import Builtin, image_classes
from models.data.dataset import Dataset, Split, Splits

CLASSES = tuple("0123456789")


def _read(_root: Path) -> Dataset:
    from sklearn.datasets import load_digits

    found = load_digits()
    # The source counts dark pixels of 4x4 blocks, 0 to 16. As 0 to 255 they are pictures like any other.
    x = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return assemble("image-classification", Split(x, found.target.astype(np.int64)), classes=CLASSES)


SOURCE = Builtin(
    name="digits",
    title="Handwritten digits, 8x8 (scikit-learn)",
    description=image_classes(8, 8, 1, CLASSES, Splits(train=1374, validation=153, test=270)),
    reader=_read,
    shipped=True,
)
