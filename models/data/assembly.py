"""From the rows of a source to a dataset: split what the source did not split, fit the preprocessing, describe."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.columns import Column, width
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.data.fields import fitted
from models.data.splits import VALIDATION_FRACTION, Rows, divide
from models.data.statistics import image_preprocessing, table_preprocessing
from models.data.texts import Texts
from models.errors import InvalidInput
from models.preprocessing import Preprocessing
from models.signature import ImageInput, Input, TableInput, Task, TextInput

DEFAULT_TEST_FRACTION = 0.15


def assemble(
    task: Task,
    source: Split,
    *,
    classes: Sequence[str] | None,
    columns: Sequence[str] = (),
    fields: Sequence[Column] | None = None,
    validation: Split | None = None,
    test: Split | None = None,
    test_fraction: float = DEFAULT_TEST_FRACTION,
    validation_fraction: float = VALIDATION_FRACTION,
    target: str | None = None,
    folder: Path | None = None,
) -> Dataset:
    """A dataset from the rows of `source`, whose labels are already indices into `classes`.

    A test split (`test_fraction`) and a validation split (`validation_fraction` of what is then left) are taken from
    `source` unless given; what is large lies in nameless files in `folder`, where there is one. `columns` names the
    columns of a table of numbers. A table that holds more has `fields` instead, and its splits are all taken from
    `source`: what is missing is NaN, and categories are places among those of their column, numbered anew here.

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
        validation_fraction if validation is None else 0,
    )
    input = _input(source, rows, columns, fields)
    train = source.take(rows.train, folder)
    validation = validation or source.take(rows.validation, folder)
    test = test or source.take(rows.test, folder)
    description = DatasetDescription(
        task=task,
        input=input,
        classes=None if classes is None else tuple(classes),
        splits=Splits(train=len(train), validation=len(validation), test=len(test)),
        target=target,
    )
    return Dataset(description, _preprocessing(train, description), train, validation, test)


def _input(source: Split, rows: Rows, columns: Sequence[str], fields: Sequence[Column] | None) -> Input:
    if isinstance(source.x, Texts):
        return TextInput()
    if source.x.ndim == 4:
        height, width_, channels = source.x.shape[1:]
        return ImageInput(height=height, width=width_, channels=channels)
    if fields is None:
        return TableInput(features=source.x.shape[1], columns=tuple(columns))
    found = fitted(source.x, rows.train, fields)
    names = tuple(field.name for field in fields)
    return TableInput(features=width(found) if found else len(names), columns=names, fields=found)


def _preprocessing(train: Split, description: DatasetDescription) -> Preprocessing | None:
    if isinstance(description.input, ImageInput):
        return image_preprocessing(train.array)
    if isinstance(description.input, TableInput):
        target = train.y if description.classes is None else None
        return table_preprocessing(train.array, description.input.columns, description.input.fields, target)
    return None


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
