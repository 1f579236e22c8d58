"""The columns of a table as the numbers that a network takes.

Shape suffixes: N rows, C columns of the client, F features. A value of a column is a number; 1 or 0 for true or
false; the place of a category among its column's; and NaN where it is missing.
"""

from collections.abc import Sequence

import numpy as np

from models.columns import CategoricalColumn, Column, width


def features(x_NC: np.ndarray, fields: tuple[Column, ...], mean_F: np.ndarray) -> np.ndarray:
    """The features of rows, float32 [N, F].

    A number stays one, and a missing one becomes the training rows' mean. A category is one-hot; one that no training
    row has is all zeros, as is a missing one. A column that is `flagged` has one more feature: 1 where it is missing.
    """
    x_NF = np.zeros((len(x_NC), width(fields)), np.float32)
    place = 0
    for column, values_N in zip(fields, x_NC.T, strict=True):
        missing_N = np.isnan(values_N)
        if isinstance(column, CategoricalColumn):
            rows = np.flatnonzero(~missing_N & (values_N < len(column.categories)))
            x_NF[rows, place + values_N[rows].astype(np.int64)] = 1
        else:
            x_NF[:, place] = np.where(missing_N, mean_F[place], values_N)
        place += column.width
        if column.flags:
            x_NF[:, place - 1] = missing_N
    return x_NF


def spread(values_C: Sequence[float], fields: tuple[Column, ...], rest: float) -> list[float]:
    """Per feature, the number of its column where the column is one number, and `rest` for all other features."""
    found: list[float] = []
    for value, column in zip(values_C, fields, strict=True):
        plain = not isinstance(column, CategoricalColumn)
        found += [float(value)] * plain + [rest] * (column.width - plain)
    return found
