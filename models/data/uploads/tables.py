"""From the rows of a file with columns to a dataset for a network that takes tables."""

from collections.abc import Sequence

import numpy as np

from models.columns import category_name
from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.uploads.columns import ColumnReader
from models.data.uploads.labels import classes_of, encode
from models.data.uploads.options import ColumnKind, UploadOptions
from models.data.uploads.records import Records, check_columns, is_missing, place_of
from models.errors import InvalidInput
from models.signature import Task


def read_table(records: Records, options: UploadOptions) -> Dataset:
    """The dataset in these rows; what each column holds is seen from its values where the options do not say it.

    Raises:
        InvalidInput: names the row and the column at fault.
    """
    place = target_place(records.columns, options)
    readers = _readers(records.columns, place, options)
    target = records.columns[place]
    regression = options.task == "tabular-regression"
    labels = ColumnReader(target, "numeric") if regression else None
    names: list[str] = []
    rows = 0
    for row, values in records.rows:
        rows += 1
        if is_missing(values[place]):
            raise records.fault(row, " is empty; fill it in or leave the row out", target)
        if labels is not None:
            labels.add(row, values[place])
        else:
            names.append(category_name(values[place]))  # type: ignore[arg-type]  # not None: it is not missing
        for at, reader in readers:
            reader.add(row, values[at])
    if not rows:
        raise InvalidInput("The file has no rows of data.", pointer="/file")
    found = [reader.finish(records) for _, reader in readers]
    x_NC = np.stack([values_N for values_N, _ in found], axis=1)
    fields = [field for _, field in found]
    if labels is not None:
        y_N, _ = labels.finish(records)
        classes = None
    else:
        classes = classes_of(names, f"Column {target!r}", options.limits)
        y_N = encode(names, classes)
    task: Task = "tabular-regression" if regression else "tabular-classification"
    return assemble(
        task,
        Split(x_NC, y_N),
        classes=classes,
        fields=fields,
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        target=target,
        folder=options.folder,
    )


def target_place(columns: Sequence[str], options: UploadOptions) -> int:
    """Where the column is that is to be predicted. Raises InvalidInput."""
    check_columns(columns, options.limits)
    target = (options.target or "").strip()
    if not target:
        raise InvalidInput("Say with target which column is to be predicted.", pointer="/target")
    place = place_of(target, columns, "/target")
    if target in options.columns:
        raise InvalidInput(
            f"{target!r} is the target; what it holds follows from the task.", pointer=f"/columns/{target}"
        )
    return place


def _readers(columns: Sequence[str], target: int, options: UploadOptions) -> list[tuple[int, ColumnReader]]:
    """Readers of all columns that are used, with their places."""
    kinds: dict[str, ColumnKind] = dict(options.columns)
    for name in kinds:
        place_of(name, columns, f"/columns/{name}")
    found = [
        (place, ColumnReader(name, kinds.get(name)))
        for place, name in enumerate(columns)
        if place != target and kinds.get(name) != "ignore"
    ]
    if not found:
        raise InvalidInput("The file has no column besides the target that may be used.", pointer="/file")
    return found
