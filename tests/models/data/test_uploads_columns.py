"""Files with columns, in every format: what their columns hold, texts, and what is refused."""

import csv
import json
import tracemalloc
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.columns import BooleanColumn, CategoricalColumn, NumericColumn
from models.data.uploads import Limits, UploadOptions, ingest
from models.errors import InvalidInput
from models.preprocessing import TablePreprocessing
from models.signature import TextInput

FORMATS = ("csv", "jsonl", "parquet")
CITIES = ("Bern", "Oslo", "Rome")
ROWS = [
    {
        "age": None if index % 10 == 0 else 20 + index % 37,
        "city": None if index % 13 == 5 else CITIES[index % 3],
        "member": index % 4 == 0,
        "id": f"key-{index}",
        "bought": "yes" if index % 2 else "no",
    }
    for index in range(120)
]
TEXTS = [
    {
        "text": f"a {('good', 'bad')[index % 2]} thing, number {index}",
        "label": ("pos", "neg")[index % 2],
        "at": index,
    }
    for index in range(60)
]
IGNORED = {"id": "ignore"}


def write(path, rows):
    """The rows as a file of the format that the path's suffix says."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(params=FORMATS)
def upload(request, tmp_path):
    def upload(rows=ROWS, task="tabular-classification", **options):
        path = write(tmp_path / f"d.{request.param}", rows)
        return ingest(path, path.name, UploadOptions(task, **options))

    return upload


def table(upload, rows=ROWS, **options):
    return upload(rows, **{"target": "bought", "columns": IGNORED, **options})


def test_columns_are_what_their_values_say(upload):
    age, city, member = table(upload).description.input.fields
    assert (age.name, type(age), age.missing) == ("age", NumericColumn, "flagged")
    assert (city.name, type(city), city.categories) == ("city", CategoricalColumn, CITIES)
    assert (member.name, type(member), member.missing) == ("member", BooleanColumn, "refused")
    assert table(upload).description.input.features == 2 + 4 + 1


def test_what_was_stored_is_what_a_request_would_make(upload):
    dataset = table(upload)
    preprocessing = dataset.preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    known = {json.dumps(row) for row in (dataset.train.array.tolist())}
    items = [{name: row[name] for name in ("age", "city", "member")} for row in ROWS[:5]]
    x = preprocessing.batch(items)
    stored = preprocessing.features(np.array([json.loads(row) for row in known], np.float32))
    assert all((stored == row).all(axis=1).any() for row in x[[1, 2, 3]])


def test_every_format_gives_the_same_dataset(tmp_path):
    found = []
    for suffix in FORMATS:
        path = write(tmp_path / f"d.{suffix}", ROWS)
        options = UploadOptions("tabular-classification", target="bought", columns=IGNORED)
        found.append(ingest(path, path.name, options))
    for other in found[1:]:
        assert other.description == found[0].description
        assert other.preprocessing == found[0].preprocessing
        np.testing.assert_array_equal(other.train.array, found[0].train.array)
        np.testing.assert_array_equal(other.test.y, found[0].test.y)


def test_a_mean_is_that_of_the_training_rows_that_have_a_value(upload):
    dataset = table(upload)
    ages = dataset.train.array[:, 0]
    assert np.isnan(ages).any()
    assert dataset.preprocessing.mean[0] == pytest.approx(np.nanmean(ages.astype(float)))


def test_the_sender_may_know_better(upload):
    rows = [{**row, "zip": index % 4} for index, row in enumerate(ROWS)]
    fields = table(upload, rows, columns={**IGNORED, "zip": "categorical"}).description.input.fields
    assert fields[-1].categories == ("0", "1", "2", "3")
    assert isinstance(table(upload, rows).description.input.fields[-1], NumericColumn)


def test_a_category_that_no_training_row_has_is_none_to_the_network(upload):
    x = table(upload).preprocessing.batch([{"age": 3, "city": "Atlantis", "member": True}])
    assert x[0].tolist() == [3, 0, 0, 0, 0, 0, 1]


def test_a_regression_has_a_number_for_a_target(upload):
    dataset = table(upload, [{**row, "price": index / 7} for index, row in enumerate(ROWS)], task="tabular-regression",
                    target="price", columns={**IGNORED, "bought": "ignore"})  # fmt: skip
    assert dataset.description.classes is None
    assert dataset.train.y.dtype == np.float32
    with pytest.raises(InvalidInput, match="is not a number"):
        table(upload, task="tabular-regression")


def test_gaps_among_numbers_alone_need_no_options(upload):
    rows = [{"a": index, "b": None if index == 7 else 1.5 * index, "y": index % 2} for index in range(40)]
    a, b = upload(rows, target="y").description.input.fields
    assert (a.missing, b.missing in ("flagged", "filled")) == ("refused", True)


@pytest.mark.parametrize(
    ("changes", "options", "words", "pointer"),
    [
        ({}, {"columns": {"ide": "ignore"}}, "no column 'ide'. Did you mean 'id'", "/columns/ide"),
        ({}, {"target": "bougth"}, "no column 'bougth'. Did you mean 'bought'", "/target"),
        ({}, {"target": None}, "Say with target", "/target"),
        ({}, {"columns": {"bought": "numeric"}}, "is the target", "/columns/bought"),
        ({"bought": None}, {}, "[12]. column 'bought' is empty", "/file"),
        ({"age": "old"}, {}, "'old' is not a number, as most values", "/file"),
        ({}, {"columns": {**IGNORED, "city": "numeric"}}, "'Bern' is not a number", "/file"),
    ],
)
def test_a_bad_table_is_refused_by_row_and_column(tmp_path, changes, options, words, pointer):
    rows = [{**row, **(changes if index == 11 else {})} for index, row in enumerate(ROWS)]
    for suffix in ("csv", "jsonl"):
        path = write(tmp_path / f"d.{suffix}", rows)
        with pytest.raises(InvalidInput, match=words.replace("[12].", "(Row 13|Line 12),")) as caught:
            given = {"target": "bought", "columns": IGNORED, **options}
            ingest(path, path.name, UploadOptions("tabular-classification", **given))
        assert caught.value.pointer == pointer


def test_texts_without_end_are_no_categories(upload):
    rows = [{"key": f"k{index}", "n": index, "y": index % 2} for index in range(1200)]
    with pytest.raises(InvalidInput, match=r"more than 1000 different texts.*ignore"):
        upload(rows, target="y")


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("inf"), "(Row 2|Line 1|Row 1), column 'a': 'inf' is not a finite number"), (1e39, "not a finite number")],
)  # fmt: skip
def test_numbers_too_large_are_no_categories(upload, value, words):
    rows = [{"a": str(value), "y": index % 2} for index in range(40)]
    with pytest.raises(InvalidInput, match=words):
        upload(rows, target="y")


def test_a_category_that_no_file_could_keep_is_refused(tmp_path):
    rows = [{"a": "xy"[index % 2], "y": index % 3} for index in range(40)]
    path = write(tmp_path / "d.jsonl", [*rows, {"a": "half \ud800", "y": 1}])
    with pytest.raises(InvalidInput, match="Line 41, column 'a' holds characters that are no text"):
        ingest(path, path.name, UploadOptions("tabular-classification", target="y"))


def test_a_column_without_values_is_refused(upload):
    rows = [{"a": index, "b": None, "y": index % 2} for index in range(40)]
    with pytest.raises(InvalidInput, match=r"'b' has no values.*ignore"):
        upload(rows, target="y")


# --- texts ----------------------------------------------------------------------------------------------------------


def test_texts_and_labels_are_read(upload):
    dataset = upload(TEXTS, "text-classification")
    assert isinstance(dataset.description.input, TextInput)
    assert dataset.description.classes == ("neg", "pos")
    assert dataset.preprocessing is None
    told = {row["text"]: row["label"] for row in TEXTS}
    for split in (dataset.train, dataset.validation, dataset.test):
        for text, y in zip(split.texts, split.y, strict=True):
            assert told[text] == dataset.description.classes[y]


def test_columns_of_texts_may_have_other_names(upload):
    rows = [{"verdict": row["label"], "words": row["text"]} for row in TEXTS]
    assert upload(rows, "text-classification", target="verdict").description.target == "verdict"
    rows = [{**row, "title": "x"} for row in rows]
    dataset = upload(rows, "text-classification", target="verdict", text="words")
    assert "thing" in dataset.train.texts[0]
    with pytest.raises(InvalidInput, match="no column 'text'") as caught:
        upload(rows, "text-classification", target="verdict")
    assert caught.value.pointer == "/text"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": ""}, "column 'text' is empty"),
        ({"text": None}, "column 'text' is empty"),
        ({"text": " \u200b\u2028 "}, "column 'text' is empty"),
        ({"label": ""}, "column 'label' is empty"),
    ],
)
def test_a_bad_text_is_refused_by_row(upload, changes, words):
    rows = [{**row, **(changes if index == 4 else {})} for index, row in enumerate(TEXTS)]
    with pytest.raises(InvalidInput, match=f"(Row 6|Line 5|Row 5), {words}"):
        upload(rows, "text-classification")


def test_punctuation_is_a_text_but_not_all_there_may_be(upload):
    some = [{**row, "text": "?!" if index == 4 else row["text"]} for index, row in enumerate(TEXTS)]
    assert "?!" in {text for part in ("train", "validation", "test")
                    for text in getattr(upload(some, "text-classification"), part).texts}  # fmt: skip
    with pytest.raises(InvalidInput, match="no word that a network could learn"):
        upload([{**row, "text": "?! \u2026"} for row in TEXTS], "text-classification")


def test_texts_of_one_class_are_refused(upload):
    with pytest.raises(InvalidInput, match="single class"):
        upload([{**row, "label": "pos"} for row in TEXTS], "text-classification")


def test_texts_need_no_column_kinds(upload):
    with pytest.raises(InvalidInput, match="columns is for tables"):
        upload(TEXTS, "text-classification", columns={"at": "ignore"})


def test_images_are_not_in_files_with_columns(upload):
    with pytest.raises(InvalidInput, match=r"\.zip") as caught:
        upload(TEXTS, "image-classification")
    assert caught.value.pointer == "/task"


# --- JSON Lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"[1, 2]", "Line 3 is not a JSON object"),
        (b"{", "Line 3 is not valid JSON"),
        (b'{"text": "a", "text": "b", "label": "x"}', "occurs twice"),
        (b'{"text": NaN, "label": "x"}', "NaN is no JSON"),
        (b'{"text": "\xff", "label": "x"}', "UTF-8"),
        (
            b'{"text": "half \\ud800", "label": "x"}',
            "Line 3, column 'text' holds characters that are no text",
        ),
        (b'{"text": "nul \\u0000", "label": "x"}', "NUL"),
        (b'{"text": 5, "label": "x"}', "Line 3, column 'text' is 5, not a text"),
        (b'{"text": ["a"], "label": "x"}', "Line 3, column 'text', holds a list"),
        (b'{"text": "' + b"[" * 100_000, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"text": "' + b"a" * 5_000_000 + b'", "label": "x"}', "longer than"),
        (b"{}", "without values"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path, line, words):
    lines = [json.dumps(row).encode() for row in TEXTS]
    lines[2] = line
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InvalidInput, match=words) as caught:
        ingest(path, path.name, UploadOptions("text-classification"))
    assert caught.value.pointer == "/file"
    assert len(caught.value.detail) < 400


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(json.dumps(row).encode() for row in TEXTS) + b"\n\n")
    dataset = ingest(path, path.name, UploadOptions("text-classification"))
    assert sum(dataset.description.splits.model_dump().values()) == len(TEXTS)


def test_a_table_line_with_another_column_is_refused(tmp_path):
    path = write(tmp_path / "d.jsonl", [*ROWS, {**ROWS[0], "agee": 3}])
    with pytest.raises(InvalidInput, match=r"Line 121 has a column 'agee'.*'age'"):
        ingest(path, path.name, UploadOptions("tabular-classification", target="bought", columns=IGNORED))


# --- Parquet --------------------------------------------------------------------------------------------------------


def test_nested_and_dated_columns_are_refused_by_name(tmp_path):
    rows = [{"y": index % 2, "a": index, "tags": [index], "when": date(2026, 1, 1)} for index in range(40)]
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    options = {"target": "y", "columns": {"when": "ignore"}}
    with pytest.raises(InvalidInput, match=r"'tags' is nested.*ignore"):
        ingest(path, path.name, UploadOptions("tabular-classification", **options))
    options["columns"] = {"tags": "ignore"}
    with pytest.raises(InvalidInput, match=r"'when' is of type"):
        ingest(path, path.name, UploadOptions("tabular-classification", **options))
    options["columns"] = {"tags": "ignore", "when": "ignore"}
    dataset = ingest(path, path.name, UploadOptions("tabular-classification", **options))
    assert dataset.description.input.columns == ("a",)


def test_dictionaries_and_decimals_are_their_values(tmp_path):
    path = tmp_path / "d.parquet"
    numbers = pa.array(range(40), pa.int64())
    columns = {
        "y": pa.array([index % 2 for index in range(40)]),
        "kind": pa.array([f"k{index % 3}" for index in range(40)]).dictionary_encode(),
        "price": numbers.cast(pa.decimal128(21, 2)),
    }
    parquet.write_table(pa.table(columns), path)
    dataset = ingest(path, path.name, UploadOptions("tabular-classification", target="y"))
    kind, price = dataset.description.input.fields
    assert (kind.categories, price.kind) == (("k0", "k1", "k2"), "numeric")


@pytest.mark.parametrize("task", ["tabular-classification", "text-classification"])
def test_a_text_that_repeats_takes_no_more_memory_than_the_file_says(tmp_path, task):
    path = tmp_path / "d.parquet"
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), ["word " * 200_000])
    parquet.write_table(pa.table({"text": words, "label": [index % 2 for index in range(3000)]}), path)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(InvalidInput, match=r"Up to row \d+ the texts|more than 200 characters"):
        ingest(path, path.name, UploadOptions(task, target="label"))
    assert tracemalloc.get_traced_memory()[1] < 200_000_000
    assert pa.default_memory_pool().max_memory() - before < 200_000_000
    tracemalloc.stop()


def test_rows_without_end_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.table({"a": [0.0] * 100_000, "y": [index % 2 for index in range(100_000)]}), path)
    options = UploadOptions("tabular-classification", target="y", limits=Limits(expanded_bytes=1_000_000))
    with pytest.raises(InvalidInput, match="100000 rows of 2 columns"):
        ingest(path, path.name, options)


@pytest.mark.parametrize("task", ["tabular-classification", "text-classification"])
def test_bytes_that_are_no_unicode_are_refused_by_row(tmp_path, task):
    path = tmp_path / "d.parquet"
    texts = [b"word %d" % index for index in range(5000)]
    texts[4500] = b"\xff"
    strings = pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts).buffers())
    parquet.write_table(
        pa.table({"text": strings, "label": [index % 2 for index in range(len(texts))]}), path
    )
    with pytest.raises(InvalidInput, match="Row 4501, column 'text' is not a text in UTF-8"):
        ingest(path, path.name, UploadOptions(task, target="label"))


def test_two_columns_of_a_name_are_refused_in_parquet(tmp_path):
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1, 2])] * 3, ["a", "a", "y"]), path)
    with pytest.raises(InvalidInput, match="Two columns are named 'a'"):
        ingest(path, path.name, UploadOptions("tabular-classification", target="y"))


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = write(tmp_path / "d.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidInput, match="not a readable Parquet file"):
        ingest(path, path.name, UploadOptions("tabular-classification", target="bought"))
