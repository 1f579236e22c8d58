"""Uploads in CSV: what is taken, and what is refused by row and column."""

import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.data.uploads import Limits, UploadOptions, ingest
from models.errors import InvalidInput

ROWS = [(f"{i}", f"{i * 0.5 - 3}", "setosa" if i % 2 else "virginica") for i in range(20)]


def text(rows=ROWS, header=("length", "width", "species"), newline="\n"):
    return newline.join(",".join(row) for row in [header, *rows]) + newline


def changed(row, column, cell):
    """The table with one cell changed; rows count as in the messages, the header is row 1."""
    rows = [list(cells) for cells in ROWS]
    rows[row - 2][column] = cell
    return text(rows)


@pytest.fixture
def upload(tmp_path):
    def upload(content, target="species", task="tabular-classification", **options):
        path = tmp_path / "upload"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return ingest(path, "d.csv", UploadOptions(task, target=target, **options))

    return upload


def pairs(dataset):
    classes = dataset.description.classes
    splits = (dataset.train, dataset.validation, dataset.test)
    return sorted(
        (*x.tolist(), classes[y] if classes else y) for s in splits for x, y in zip(s.x, s.y, strict=True)
    )


EXPECTED = sorted((float(a), float(b), c) for a, b, c in ROWS)


# --- what is taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(newline="\r\n"),
        "\ufeff" + text(),
        text().rstrip("\n"),
        text() + "\n\n",
        text().replace("setosa", '"setosa"').replace("length", '"length"'),
        text().replace(",", " , "),
        text().replace("\n", "\n\n"),
    ],
    ids=["plain", "crlf", "bom", "no end", "blank end", "quoted", "spaces", "blank lines"],
)
def test_a_table_is_read_in_every_common_dress(upload, content):
    dataset = upload(content)
    assert pairs(dataset) == EXPECTED
    assert dataset.train.x.dtype == np.float32
    assert dataset.description.input.columns == ("length", "width")
    assert dataset.description.classes == ("setosa", "virginica")
    assert dataset.description.target == "species"
    assert dataset.description.splits.model_dump() == {"train": 15, "validation": 2, "test": 3}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_target_may_be_any_column(upload, place):
    order = [0, 1]
    order.insert(place, 2)
    header = ("length", "width", "species")
    content = text([[row[i] for i in order] for row in ROWS], [header[i] for i in order])
    assert pairs(upload(content)) == EXPECTED


def test_a_number_can_be_predicted(upload):
    dataset = upload(text([row[:2] for row in ROWS], ("length", "width")), "width", "tabular-regression")
    assert dataset.description.classes is None
    assert dataset.train.y.dtype == np.float32
    assert pairs(dataset) == sorted((float(a), float(b)) for a, b, _ in ROWS)
    assert np.isclose(dataset.preprocessing.target_mean, dataset.train.y.mean(dtype=np.float64))


def test_class_numbers_are_sorted_by_value(upload):
    rows = [(a, b, str((9, 10, -1)[i % 3])) for i, (a, b, _) in enumerate(ROWS)]
    assert upload(text(rows)).description.classes == ("-1", "9", "10")


def test_quoted_cells_may_hold_commas_quotes_and_line_breaks(upload):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["a, or b", 'so-called "width"', "species"])
    writer.writerows(("1", str(i), ("x, y", 'say "hi"')[i % 2]) for i in range(10))
    dataset = upload(buffer.getvalue())
    assert dataset.description.input.columns == ("a, or b", 'so-called "width"')
    assert dataset.description.classes == ('say "hi"', "x, y")


def test_a_long_text_is_one_cell(upload):
    rows = [(f"word {index} " * 20_000, "ab"[index % 2]) for index in range(20)]
    dataset = upload(text(rows, ("text", "kind")), target="kind", task="text-classification")
    assert min(dataset.train.texts.sizes) > 131_072


@pytest.mark.parametrize("task", ["tabular-classification", "text-classification"])
def test_the_fractions_are_kept(upload, task):
    rows = [(f"word {index}", "ab"[index % 2]) for index in range(20)]
    file = text(rows, ("text", "label"))
    splits = upload(
        file, target="label", task=task, test_fraction=0.5, validation_fraction=0.3
    ).description.splits
    assert (splits.train, splits.validation, splits.test) == (7, 3, 10)


@pytest.mark.parametrize("number", ["1e3", "-0.5", "+7", ".5", "1E-3", " 3 ", "3.4028234e38"])
def test_numbers_may_be_written_in_any_usual_way(upload, number):
    assert np.float32(float(number)) in {row[0] for row in pairs(upload(changed(5, 0, number)))}


def test_many_large_numbers_in_one_row_are_fine(upload):
    rows = [("3e38", "3e38", label) for _, _, label in ROWS]
    assert pairs(upload(text(rows)))[0][0] == np.float32(3e38)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("\ufeff", "empty"),
        ("\n", "empty"),
        (text([]), "no rows"),
        ("length,species\n1,a\n1,a\n", "single class"),
        (text(ROWS[:2]), "too few"),
        (changed(7, 2, ""), "Row 7, column 'species' is empty"),
        (changed(2, 0, "red"), "Row 2, column 'length': 'red' is not a number"),
        (changed(21, 0, "1_000"), "Row 21, column 'length': '1_000' is not a number"),
        (changed(4, 0, "-inf"), "Row 4, column 'length'"),
        (changed(4, 0, "1e39"), "fits a 32-bit float"),
        (changed(4, 0, "1e400"), "fits a 32-bit float"),
        (changed(4, 0, "0x10"), "not a number"),
        (changed(4, 0, "1\x00"), "not a number"),
        (changed(4, 0, "9" * 5000), "fits a 32-bit float"),
        (changed(4, 1, "1,2"), r"Row 4 has 4 cell\(s\) but the header has 3"),
        (text().replace("\n5,-0.5,setosa", "\n5,setosa"), r"Row 7 has 2 cell\(s\)"),
        (
            text().replace("\n5,", "\n\n5,").replace("setosa\n6,", "setosa\nsix,"),
            "Row 9, column 'length': 'six'",
        ),
        (text().replace(",", ";"), "separated by commas"),
        (text().replace(",", "\t"), "separated by commas"),
        ("species\na\nb\n", "no column besides"),
        (text(header=("length", "length", "species")), "Two columns are named 'length'"),
        (text(header=("length", "", "species")), "name of column 2 is empty"),
        (text(header=("length", "w" * 300, "species")), "longer than 200"),
        (text(header=("length", "w\x07", "species")), "not printable"),
        (changed(4, 2, "a\x07"), "not printable"),
        (changed(4, 2, "s" * 300), "longer than 200"),
        (changed(4, 2, '"' + "s" * 140_000 + '"'), "longer than 200"),
        (text() + '21,1,"setosa', "Row 22 opens a quotation mark that is never closed"),
        (text().replace("\n5,-0.5,", '\n5,-0.5,"'), "Row 7 opens a quotation mark that is never closed"),
        ('"length,width,species\n1,2,setosa\n', "Row 1 opens a quotation mark that is never closed"),
        (",".join(f"c{i}" for i in range(5000)) + "\n", "at most 4096"),
        (text().encode("utf-16"), "UTF-8"),
        (text().encode() + b"\xff", "UTF-8"),
        ('a,species\n1,"' + "never closed\n" * 200_000, "longer than|quotation|larger"),
        ("a,species\n" + "1" * 2_000_000, "row is longer|larger"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_bad_table_is_refused_by_row_and_column(upload, content, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        upload(content)
    assert caught.value.pointer in {"/file", None}
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, "which column"),
        ("", "which column"),
        ("specis", "Did you mean 'species'"),
        ("zzz", "Known: length, species, width"),
        ("x" * 5000, "no column"),
    ],
)
def test_a_wrong_target_names_the_nearest_column(upload, target, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        upload(text(), target)
    assert caught.value.pointer == "/target"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text(), "Row 2, column 'species': 'virginica' is not a number"),
        (text([(a, b, "7") for a, b, _ in ROWS]), "same value"),
        (text([(a, b, a) for a, b, _ in ROWS] + [("1", "2", "inf")]), "Row 22, column 'species'"),
    ],
)
def test_a_target_that_is_no_number_is_refused_for_regression(upload, content, words):
    with pytest.raises(InvalidInput, match=words):
        upload(content, task="tabular-regression")


def test_images_do_not_come_as_csv(upload):
    with pytest.raises(InvalidInput, match="npz") as caught:
        upload(text(), task="image-classification")
    assert caught.value.pointer == "/task"


def test_too_many_classes_suggest_regression(upload):
    rows = [(a, b, str(i // 2)) for i, (a, b, _) in enumerate(ROWS)]
    with pytest.raises(InvalidInput, match="tabular-regression"):
        upload(text(rows), limits=Limits(classes=9))


def test_a_record_over_many_lines_is_refused_before_it_fills_the_memory(upload):
    # Each line ends inside a quoted cell, so that no cell and no line is long but the row never ends.
    endless = 'a,species\n"' + '","\n' * 400_000
    with pytest.raises(InvalidInput, match="longer than 1048576 characters"):
        upload(endless)


# --- anything at all ----------------------------------------------------------------------------------------------

cells = st.one_of(
    st.text(max_size=6),
    st.integers(-100, 100).map(str),
    st.floats().map(repr),
    st.sampled_from(["", '"', "nan", "1_0", "setosa", ",", "\n", "\x00"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(cells, max_size=4), max_size=12),
    st.sampled_from(["species", "length", "x"]),
    st.sampled_from(["tabular-classification", "tabular-regression"]),
)
def test_any_cells_at_all_are_read_or_refused(upload, rows, target, task):
    content = "length,species\n" + "\n".join(",".join(row) for row in rows)
    check(upload, content.encode("utf-8", "surrogatepass"), target, task)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5),
    st.sampled_from(["tabular-classification", "tabular-regression"]),
)
@example([(21, 9)], "tabular-classification")
def test_a_damaged_table_is_read_or_refused(upload, changes, task):
    content = bytearray(text().encode())
    for place, value in changes:
        content[place % len(content)] = value
    check(upload, bytes(content), "species", task)


def check(upload, content, target, task):
    try:
        dataset = upload(content, target, task)
    except InvalidInput as error:
        assert error.detail.endswith((".", ")", "?"))
    else:
        gaps = dataset.description.input.fields is not None  # a cell of spaces alone is one, stored as NaN
        assert not np.isinf(dataset.train.x).any()
        assert gaps or not np.isnan(dataset.train.x).any()
        assert len(dataset.train) == dataset.description.splits.train


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(finite, finite, finite), min_size=5, max_size=30).filter(
        lambda r: len({y for *_, y in r}) > 1
    )
)
def test_any_float32_table_is_read_back_exactly(upload, rows):
    content = "a,b,y\n" + "\n".join(",".join(map(repr, row)) for row in rows)
    dataset = upload(content, "y", "tabular-regression")
    assert pairs(dataset) == sorted(rows)


def test_a_wide_table_does_not_list_all_its_columns(upload):
    header = [f"feature{number}" for number in range(1000)]
    with pytest.raises(InvalidInput, match="begin with feature0, feature1,") as caught:
        upload(",".join(header) + "\n", "zzz")
    assert len(caught.value.detail) < 300
