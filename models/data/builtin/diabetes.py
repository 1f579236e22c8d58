"""442 patients, ten measurements each, and how far their diabetes had moved a year later; inside scikit-learn's wheel.

Source: B. Efron et al., "Least Angle Regression", Annals of Statistics 32(2), 2004. Values in their own units.
"""

from pathlib import Path

import numpy as np

from models.data.assembly import assemble
from models.data.builtin.source import Builtin
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.signature import TableInput

COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
TARGET = "progression"


def _read(_root: Path) -> Dataset:
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    source = Split(found.data.astype(np.float32), found.target.astype(np.float32))
    return assemble("tabular-regression", source, classes=None, columns=found.feature_names, target=TARGET)


SOURCE = Builtin(
    name="diabetes",
    title="Diabetes progression, 10 measurements (scikit-learn)",
    description=DatasetDescription(
        task="tabular-regression",
        input=TableInput(features=len(COLUMNS), columns=COLUMNS),
        classes=None,
        splits=Splits(train=338, validation=38, test=66),
        target=TARGET,
    ),
    reader=_read,
    shipped=True,
)
