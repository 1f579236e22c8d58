"""Which rows train, which validate, which test: the same for the same labels, everywhere and always.

Rows are put in the order of random keys: raw 64-bit outputs of NumPy's counter-based Philox generator, keyed by a
fixed seed and the number of rows, sorted stably. Raw outputs, not `Generator.permutation`, because NumPy promises
never to change the former (NEP 19). With classes, each split takes its share of every class (largest remainder),
and one row of every class at least stays in the training split.
"""

from dataclasses import dataclass

import numpy as np

from models.errors import InvalidInput

SEED = 20240229
VALIDATION_FRACTION = 0.1


@dataclass(frozen=True)
class Rows:
    """Row numbers of each split, ascending. `test` is empty when the source brought its own test split."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def divide(
    groups: np.ndarray, test_fraction: float, validation_fraction: float = VALIDATION_FRACTION
) -> Rows:
    """Divide rows into splits. `groups`: int64 [N], the class of each row; all 0 where there are none.

    `test_fraction` is of all rows, `validation_fraction` of what is then left; 0 takes none, anything else at least
    one row.

    Raises:
        InvalidInput: too few rows for every class to train and every split to have a row.
    """
    counts = np.bincount(groups)
    tests = _wanted(len(groups), test_fraction)
    validations = _wanted(len(groups) - tests, validation_fraction)
    spare = int(np.maximum(counts - 1, 0).sum())
    needed = (tests > 0) + (validations > 0)
    if spare < needed:
        raise InvalidInput(
            f"{len(groups)} row(s) in {np.count_nonzero(counts)} class(es) are too few: after one training row "
            f"for each class, {needed} more are needed for validation and test. Add rows or merge rare classes.",
            code="too_few_rows",
        )
    tests = min(tests, spare - (validations > 0))
    validations = min(validations, spare - tests)

    test_counts = share(counts, tests)
    validation_counts = share(counts - test_counts, validations)
    part = _assign(groups, test_counts, validation_counts)
    return Rows(*(np.flatnonzero(part == number) for number in range(3)))


def order(rows: int) -> np.ndarray:
    """Row numbers 0..rows-1 in a fixed random order."""
    key = np.array([SEED, rows], dtype=np.uint64)
    keys = np.asarray(np.random.Philox(key=key).random_raw(rows))
    return np.argsort(keys, kind="stable")


def share(counts: np.ndarray, total: int) -> np.ndarray:
    """How many of `total` rows to take from each class of `counts` rows: in proportion, but leaving one in each.

    `total` is at most what can be taken. Rounding is by largest remainder, ties to the lower class.
    """
    spare = np.maximum(counts - 1, 0)
    exact = counts * (total / max(counts.sum(), 1))
    taken: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), spare)
    by_remainder = np.argsort(taken - exact, kind="stable")
    while (missing := total - int(taken.sum())) > 0:
        open_classes = by_remainder[taken[by_remainder] < spare[by_remainder]]
        taken[open_classes[:missing]] += 1
    return taken


def _wanted(rows: int, fraction: float) -> int:
    return max(1, int(rows * fraction + 0.5)) if fraction else 0


def _assign(groups: np.ndarray, tests: np.ndarray, validations: np.ndarray) -> np.ndarray:
    """For each row 0 (train), 1 (validation) or 2 (test): of each class in random order, the first rows test."""
    shuffled = order(len(groups))
    by_class = shuffled[np.argsort(groups[shuffled], kind="stable")]
    classes = groups[by_class]
    rank = np.arange(len(groups)) - np.searchsorted(classes, classes)  # position of a row within its class
    part = np.zeros(len(groups), np.int64)
    part[by_class] = np.where(
        rank < tests[classes], 2, np.where(rank < tests[classes] + validations[classes], 1, 0)
    )
    return part
