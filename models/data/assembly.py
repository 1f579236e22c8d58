"""From the rows of a source to a dataset: split what the source did not split, fit the preprocessing, describe."""

from collections.abc import Sequence

import numpy as np

from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.data.splits import VALIDATION_FRACTION, divide
from models.data.statistics import image_preprocessing, table_preprocessing
from models.errors import InvalidInput
from models.preprocessing import Preprocessing
from models.signature import ImageInput, Input, TableInput, Task

DEFAULT_TEST_FRACTION = 0.15


def assemble(
    task: Task,
    source: Split,
    *,
    classes: Sequence[str] | None,
    columns: Sequence[str] = (),
    validation: Split | None = None,
    test: Split | None = None,
    test_fraction: float = DEFAULT_TEST_FRACTION,
    target: str | None = None,
) -> Dataset:
    """A dataset from the rows of `source`, whose labels are already indices into `classes`.

    A validation split (10 % of the training rows) and a test split (`test_fraction`) are taken from `source` unless
    given. `columns` names the features of a table.

    Raises:
        InvalidInput: too few rows, a class that no training row has, or a target that is always the same.
    """
    if classes is None:
        _check_varies(source)
    else:
        _check_trained(source, classes)
    rows = divide(
        np.zeros(len(source), np.int64) if classes is None else source.y,
        test_fraction if test is None else 0,
        VALIDATION_FRACTION if validation is None else 0,
    )
    train = _take(source, rows.train)
    validation = validation or _take(source, rows.validation)
    test = test or _take(source, rows.test)
    description = DatasetDescription(
        task=task,
        input=_input(train.x, columns),
        classes=None if classes is None else tuple(classes),
        splits=Splits(train=len(train), validation=len(validation), test=len(test)),
        target=target,
    )
    return Dataset(description, _preprocessing(train, description), train, validation, test)


def _take(source: Split, rows: np.ndarray) -> Split:
    return Split(source.x[rows], source.y[rows])


def _input(x: np.ndarray, columns: Sequence[str]) -> Input:
    if x.ndim == 4:
        return ImageInput(height=x.shape[1], width=x.shape[2], channels=x.shape[3])
    return TableInput(features=x.shape[1], columns=tuple(columns))


def _preprocessing(train: Split, description: DatasetDescription) -> Preprocessing:
    if isinstance(description.input, ImageInput):
        return image_preprocessing(train.x)
    target = train.y if description.classes is None else None
    assert isinstance(description.input, TableInput)
    return table_preprocessing(train.x, description.input.columns, target)


def _check_trained(source: Split, classes: Sequence[str]) -> None:
    absent = np.flatnonzero(np.bincount(source.y, minlength=len(classes)) == 0)
    if absent.size:
        names = ", ".join(repr(classes[index]) for index in absent[:5])
        raise InvalidInput(
            f"No training row has class {names}, which occurs in the validation or test rows. Every class must occur "
            "in the training rows.",
            code="untrained_class",
        )


def _check_varies(source: Split) -> None:
    if len(source) and source.y.min() == source.y.max():
        raise InvalidInput("The target has the same value in every training row.", code="constant_target")
