"""What a look at a dataset's samples finds."""

import numpy as np
import pytest

from models.data.assembly import assemble
from models.data.dataset import Split
from models.data.inspection import inspected
from models.data.texts import Texts


def table(x, y, **options):
    columns = [f"c{index}" for index in range(x.shape[1])]
    return inspected(
        assemble("tabular-classification", Split(x.astype(np.float32), y), classes=["a", "b", "c"], columns=columns,
                 **options)
    ).description.report  # fmt: skip


def codes(report):
    return [warning.code for warning in report.warnings]


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    return generator.normal(size=(600, 3)), np.arange(600) % 3


def test_a_sound_dataset_has_counts_and_no_warnings(rows):
    report = table(*rows)
    assert codes(report) == []
    counts = np.array(list(report.class_counts.model_dump().values()))
    assert counts.sum() == 600
    assert (counts.sum(axis=0) == 200).all()


def test_samples_in_two_splits_are_counted(rows):
    x, y = rows
    x[:] = x[y]  # three samples, over and over
    (first, *_), *_ = [table(x, y).warnings]
    assert first.code == "duplicates"
    assert "90 of the 90 test samples are also in the train split" in first.detail


def test_equal_texts_are_duplicates_whatever_their_case():
    texts = Texts.of(
        f"text {index // 2}".upper() if index % 2 else f"text {index // 2}" for index in range(400)
    )
    y = np.arange(400) // 2 % 2
    report = inspected(
        assemble("text-classification", Split(texts, y), classes=["a", "b"])
    ).description.report
    assert "duplicates" in codes(report)


def test_a_class_that_is_nearly_everything_is_told(rows):
    x, y = rows
    y[y > 0] = np.where(np.arange(400) < 20, 1, 0)
    y[0] = 2
    report = table(x, y)
    assert {"dominant_class", "empty_class"} <= set(codes(report))
    detail = next(warning.detail for warning in report.warnings if warning.code == "empty_class")
    assert "'c'" in detail


def test_a_constant_column_is_named(rows):
    x, y = rows
    x[:, 1] = 4
    (warning,) = table(x, y).warnings
    assert (warning.code, "'c1'" in warning.detail) == ("constant_column", True)


def test_small_splits_are_told(rows):
    x, y = rows
    assert codes(table(x[:60], y[:60])) == ["small_split", "small_split"]
