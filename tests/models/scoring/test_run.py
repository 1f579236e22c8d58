"""Scoring in parts: whatever parts there were, the file is the same."""

import itertools
import json
from hashlib import sha256

import numpy as np
import pytest
from pyarrow import parquet

from models.errors import InvalidInput, OutOfMemory
from models.scoring.parts import Parts
from models.scoring.run import LEAST_GROUP_ROWS, MOST_GROUP_ROWS, group_rows
from models.scoring.samples import batch_rows
from models.scoring.tally import Tally
from models.signature import ImageInput, TableInput, TokenInput
from tests.models.scoring.scenes import card, dataset, run, spec

FORMATS = ("parquet", "jsonl")


def complete(made, file):
    for _ in made.batches():
        pass
    return made.write(file)


def hash_of(file):
    return sha256(file.read_bytes()).hexdigest()


def read(file):
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    return parquet.read_table(file).to_pylist()


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_does_not_depend_on_its_parts(tmp_path, format):
    asked = spec(format=format, wanted=["labels", "probabilities", "logits"], top_k=2)
    ticks = itertools.count()
    one, many = (
        run(tmp_path / "one", asked),
        run(tmp_path / "many", asked, part_every_s=0.5, clock=lambda: float(next(ticks))),
    )
    one.group_rows = many.group_rows = 700  # no batch ends there
    metrics = [complete(made, tmp_path / f"{n}.{format}") for n, made in enumerate((one, many))]
    assert len(list((tmp_path / "one").glob("*.parquet"))) == 1
    assert len(list((tmp_path / "many").glob("*.parquet"))) == 9
    assert hash_of(tmp_path / f"0.{format}") == hash_of(tmp_path / f"1.{format}")
    assert metrics[0] == metrics[1]
    if format == "parquet":
        with parquet.ParquetFile(tmp_path / "0.parquet") as file:
            groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert groups == [700, 700, 600]


@pytest.mark.parametrize("batches", [1, 3, 4, 5, 8])
def test_a_run_that_was_stopped_goes_on_after_the_last_batch(tmp_path, batches):
    asked = spec()
    whole = run(tmp_path / "whole", asked)
    metrics = complete(whole, tmp_path / "whole.parquet")
    first = run(tmp_path / "1", asked)
    for _ in itertools.islice(first.batches(), batches):
        pass
    first.save()
    second = run(tmp_path / "2", asked, earlier=[tmp_path / "1"])
    assert second.rows == first.rows > 0
    assert complete(second, tmp_path / "second.parquet") == metrics
    assert len(second._predictor.batches) == 9 - batches
    assert hash_of(tmp_path / "second.parquet") == hash_of(tmp_path / "whole.parquet")


def stopped(tmp_path, name, batches):
    """A folder with a part for each of so many batches."""
    ticks = itertools.count()
    made = run(tmp_path / name, spec(), part_every_s=0.5, clock=lambda: float(next(ticks)))
    for _ in itertools.islice(made.batches(), batches):
        pass
    return tmp_path / name


def test_the_attempt_that_came_furthest_is_gone_on_from(tmp_path):
    earlier = [stopped(tmp_path, name, batches) for name, batches in (("a", 2), ("b", 5), ("c", 0))]
    parts = Parts(tmp_path / "new", earlier)
    assert (parts.rows, len(parts.paths)) == (1000 + 256, 5)
    assert all(path.parent == tmp_path / "new" for path in parts.paths)
    assert [path.stat().st_nlink for path in parts.paths] == [2] * 5


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda folder: (folder / "000000000512.json").unlink(), 512),
        (lambda folder: (folder / "000000000512.parquet").unlink(), 512),
        (lambda folder: (folder / "000000000512.parquet").write_bytes(b"rotten"), 512),
        (lambda folder: (folder / "000000000512.json").write_text('{"format": "other"}'), 512),
        (lambda folder: (folder / "000000000512.json").write_text("{"), 512),
        (lambda folder: (folder / "000000000000.json").unlink(), 0),
    ],
)
def test_nothing_after_a_part_that_is_not_whole_is_used(tmp_path, damage, kept):
    folder = stopped(tmp_path, "a", 4)
    damage(folder)
    assert Parts(tmp_path / "new", [folder]).rows == kept
    again = run(tmp_path / "again", spec(), earlier=[folder])
    complete(again, tmp_path / "again.parquet")
    complete(run(tmp_path / "whole", spec()), tmp_path / "whole.parquet")
    assert hash_of(tmp_path / "again.parquet") == hash_of(tmp_path / "whole.parquet")


def test_folders_that_are_not_there_are_no_parts(tmp_path):
    assert Parts(tmp_path / "new", [tmp_path / "none"]).rows == 0


@pytest.mark.parametrize("format", FORMATS)
def test_rows_come_in_order_with_the_datasets_own_labels(tmp_path, format):
    held = dataset()
    complete(run(tmp_path / "parts", spec(format=format), held=held), tmp_path / f"r.{format}")
    rows = read(tmp_path / f"r.{format}")
    splits = [("train", held.train), ("validation", held.validation), ("test", held.test)]
    assert [row["target"] for row in rows] == ["xyz"[y] for _, split in splits for y in split.y]
    assert [(row["split"], row["row"]) for row in rows] == [
        (name, row) for name, split in splits for row in range(len(split))
    ]
    sums = [float(row.sum()) for _, split in splits for row in split.x]
    assert [row["label"] for row in rows] == ["z" if total > 0 else "x" for total in sums]


def test_both_formats_say_the_same(tmp_path):
    wanted = ["labels", "probabilities", "logits"]
    for format in FORMATS:
        complete(
            run(tmp_path / format, spec(format=format, wanted=wanted, top_k=3)), tmp_path / f"r.{format}"
        )
    assert read(tmp_path / "r.parquet") == read(tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ({}, ["label", "index", "score"]),
        ({"top_k": 2}, ["label", "index", "score", "top"]),
        ({"wanted": ["probabilities"], "top_k": 2}, ["probabilities"]),
        ({"wanted": ["logits", "labels"]}, ["label", "index", "score", "logits"]),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_only_what_was_asked_for_is_written(tmp_path, format, asked, columns):
    made = run(tmp_path / "parts", spec(split="validation", format=format, **asked))
    complete(made, tmp_path / f"r.{format}")
    rows = read(tmp_path / f"r.{format}")
    assert len(rows) == 300
    assert list(rows[0]) == ["row", "split", "target", *columns]


def test_more_labels_than_there_are_is_all_of_them(tmp_path):
    complete(run(tmp_path / "parts", spec(top_k=9)), tmp_path / "r.parquet")
    assert [len(row["top"]) for row in read(tmp_path / "r.parquet")] == [3] * 2000


def test_a_regressions_values_are_in_the_targets_units(tmp_path):
    held, about = dataset(classes=None), card(classes=None)
    asked = spec(split="test", wanted=["labels", "probabilities", "logits"], format="jsonl")
    metrics = complete(run(tmp_path / "parts", asked, held=held, about=about), tmp_path / "r.jsonl")
    rows = read(tmp_path / "r.jsonl")
    assert list(rows[0]) == ["row", "split", "target", "value", "logits"]
    sums = held.test.x.sum(axis=1).astype(np.float64)
    np.testing.assert_allclose([row["value"] for row in rows], sums * 2 + 3, rtol=1e-6)
    assert [row["target"] for row in rows] == held.test.y.tolist()
    errors = np.array([row["value"] - row["target"] for row in rows])
    assert metrics == pytest.approx({"rmse": (errors**2).mean() ** 0.5, "mae": np.abs(errors).mean()})


def test_labels_are_compared_by_name(tmp_path):
    held = dataset()
    turned = card(classes=("z", "x", "y"))
    metrics = complete(run(tmp_path / "a", spec(), held=held, about=turned), tmp_path / "r.parquet")
    rows = read(tmp_path / "r.parquet")
    assert metrics["accuracy"] == pytest.approx(np.mean([row["label"] == row["target"] for row in rows]))
    assert 0 < metrics["accuracy"] < 1


def test_a_model_that_does_not_know_a_label_is_not_judged(tmp_path):
    strange = card(classes=("x", "y", "w"))
    assert complete(run(tmp_path / "a", spec(), about=strange), tmp_path / "r.parquet") == {}


def test_a_model_without_names_counts_its_classes_as_the_dataset_does(tmp_path):
    nameless = card().model_copy(update={"classes": None})
    metrics = complete(run(tmp_path / "a", spec(), about=nameless), tmp_path / "r.parquet")
    assert {row["label"] for row in read(tmp_path / "r.parquet")} == {"0", "2"}
    assert metrics.keys() == {"loss", "accuracy"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_without_a_finite_answer_has_none_and_the_others_have_theirs(tmp_path, format):
    held, asked = dataset(), spec(format=format, wanted=["labels", "probabilities", "logits"], top_k=2)
    path = tmp_path / f"r.{format}"
    expected = complete(run(tmp_path / "whole", asked), path), read(path)
    held.validation.x[[0, 260], 0] = np.inf
    found = complete(run(tmp_path / "parts", asked, held=held), path), read(path)
    strange = [(0, "validation"), (260, "validation")]
    without = [row for row in found[1] if row["label"] is None]
    assert [(row["row"], row["split"]) for row in without] == strange
    asked_for = {"label", "index", "score", "top", "probabilities", "logits"}
    assert all(row[name] is None for row in without for name in asked_for)
    assert [row["target"] for row in found[1]] == [row["target"] for row in expected[1]]
    rest = [row for row in found[1] if row["label"] is not None]
    assert rest == [row for row in expected[1] if (row["row"], row["split"]) not in strange]
    likelihoods = [row["probabilities"]["xyz".index(row["target"])] for row in rest]
    assert found[0] == {
        "loss": pytest.approx(-np.mean(np.log(likelihoods)), rel=1e-6),
        "accuracy": pytest.approx(np.mean([row["label"] == row["target"] for row in rest])),
        "unanswered_rows": 2,
    }


def test_unanswered_rows_are_counted_over_attempts_and_of_regressions(tmp_path):
    tally = Tally(*json.loads(json.dumps(Tally().plus_unanswered(2)))).plus_unanswered(1)
    assert tally.plus_values(np.array([1.0]), np.array([2.0])).metrics(regression=True) == {
        "rmse": 1, "mae": 1, "unanswered_rows": 3,
    }  # fmt: skip


def test_a_model_without_any_answer_is_refused(tmp_path):
    held = dataset()
    for split in (held.train, held.validation, held.test):
        split.x[:] = np.inf
    with pytest.raises(InvalidInput, match="is not a finite number") as refused:
        complete(run(tmp_path / "a", spec(), held=held), tmp_path / "r.parquet")
    assert refused.value.specific_code == "not_finite"


def test_a_device_that_is_too_small_is_named_without_a_batch_size_to_choose(tmp_path):
    class Full:
        def logits(self, x):
            raise OutOfMemory("Use a batch_size of 128.")

    made = run(tmp_path / "a", spec(), predictor=Full())
    with pytest.raises(OutOfMemory, match="too little memory for 256 rows"):
        complete(made, tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("taken", "rows"),
    [
        (TableInput(features=3, columns=("a", "b", "c")), 256),
        (ImageInput(height=32, width=32, channels=3), 256),
        (ImageInput(height=224, width=224, channels=3), 64),
        (TokenInput(vocabulary=9, length=16, padding=0), 64),
    ],
)
def test_fewer_rows_are_computed_together_where_each_takes_much_memory(taken, rows):
    assert batch_rows(taken) == rows


def test_row_groups_are_smaller_where_a_row_has_many_numbers():
    few = group_rows(card())
    many = group_rows(card(classes=tuple(map(str, range(1000)))))
    most = group_rows(card(classes=tuple(map(str, range(100_000)))))
    assert (few, most) == (MOST_GROUP_ROWS, LEAST_GROUP_ROWS)
    assert most < many < few
