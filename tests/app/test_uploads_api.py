"""Uploads of pictures, texts and tables of all kinds, over HTTP."""

import base64
import io
import json
import zipfile
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.app.serving import assert_problem


def upload(
    client: httpx.Client, name: str, content: bytes | str, filename: str, **fields: Any
) -> httpx.Response:
    form = {"name": name, "task": "tabular-classification", "target": "kind", **fields}
    given = {key: value for key, value in form.items() if value is not None}
    return client.post("/datasets", data=given, files={"file": (filename, content)})


def zipped(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return archive.getvalue()


def coloured(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(file, "PNG")
    return file.getvalue()


def noise(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


PICTURES = {f"{colour}/{index}.png": coloured(colour) for colour in ("red", "blue") for index in range(12)}


def test_pictures_are_uploaded_and_previewed(client: httpx.Client) -> None:
    answer = upload(
        client, "pictures", zipped(PICTURES), "a.zip", task="image-classification", target=None, size="8x6"
    )
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert dataset["input"] == {"kind": "image", "height": 8, "width": 6, "channels": 3}
    assert sum(sum(counts) for counts in dataset["class_counts"].values()) == 24
    assert {"duplicates", "small_split"} <= {warning["code"] for warning in dataset["warnings"]}
    (row, *_) = client.get("/datasets/pictures/preview?split=test").json()["rows"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["input"]["image"]))))
    assert tuple(pixels[0, 0]) == {"red": (255, 0, 0), "blue": (0, 0, 255)}[row["label"]]


def test_texts_are_uploaded_and_previewed(client: httpx.Client) -> None:
    lines = [
        {"words": f"number {index} is {'odd' if index % 2 else 'even'}", "kind": index % 2}
        for index in range(80)
    ]
    content = "\n".join(map(json.dumps, lines))
    answer = upload(
        client, "parity", content, "a.jsonl", task="text-classification", target="kind", text="words"
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["input"] == {"kind": "text"}
    (row, *_) = client.get("/datasets/parity/preview").json()["rows"]
    assert ("odd" in row["input"]["text"]) == (row["label"] == "1")


def test_a_table_with_categories_and_gaps_is_previewed_as_it_was_sent(client: httpx.Client) -> None:
    rows = [
        f"{'' if index % 9 == 0 else index},{('north', 'south')[index % 2]},{index % 3}"
        for index in range(90)
    ]
    content = "\n".join(["age,side,code,kind", *(f"{row},{index % 2}" for index, row in enumerate(rows))])
    answer = upload(client, "mixed", content, "a.csv", columns=json.dumps({"code": "categorical"}))
    assert answer.status_code == 201, answer.text
    age, side, code = answer.json()["input"]["fields"]
    assert (age["kind"], age["missing"]) == ("numeric", "flagged")
    assert (side["categories"], code["categories"]) == (["north", "south"], ["0", "1", "2"])
    shown = client.get("/datasets/mixed/preview?limit=60").json()["rows"]
    assert {type(row["input"]["age"]) for row in shown} == {float, type(None)}
    sent = set(rows)
    for row in shown:
        age = row["input"]["age"]
        assert f"{'' if age is None else int(age)},{row['input']['side']},{row['input']['code']}" in sent


@pytest.mark.parametrize("filename", ["a.csv", "a.jsonl", "a.parquet"])
def test_what_columns_were_taken_for_can_be_corrected(client: httpx.Client, filename: str) -> None:
    rows = [
        {"zip": 8000 + index % 3, "note": f"n{index}", "grade": str(index % 5), "kind": "ab"[index % 2]}
        for index in range(60)
    ]
    content = encoded(rows, filename)
    name = filename.replace(".", "-")

    def kinds(columns: dict[str, str] | None) -> dict[str, str]:
        given = None if columns is None else json.dumps(columns)
        answer = upload(client, name, content, filename, columns=given)
        assert answer.status_code == 201, answer.text
        assert client.delete(f"/datasets/{name}").status_code == 200
        taken = answer.json()["input"]
        fields = taken["fields"] or [{"name": column, "kind": "numeric"} for column in taken["columns"]]
        return {field["name"]: field["kind"] for field in fields}

    assert kinds(None) == {"zip": "numeric", "note": "categorical", "grade": "numeric"}
    assert kinds({"zip": "categorical", "note": "ignore"}) == {"zip": "categorical", "grade": "numeric"}
    assert kinds({"grade": "categorical"})["grade"] == "categorical"
    wrong = upload(client, name, content, filename, columns='{"note": "numeric"}')
    assert_problem(wrong, 422, "/file", "column 'note': 'n0' is not a number")


def encoded(rows: list[dict[str, Any]], filename: str) -> bytes:
    if filename.endswith(".jsonl"):
        return "\n".join(map(json.dumps, rows)).encode()
    if filename.endswith(".csv"):
        lines = [",".join(map(str, row.values())) for row in rows]
        return "\n".join([",".join(rows[0]), *lines]).encode()
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def found(client: httpx.Client, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The dataset, and what its warnings say by their codes, a line each; the preview tells the same."""
    dataset: dict[str, Any] = client.get(f"/datasets/{name}").json()
    preview = client.get(f"/datasets/{name}/preview").json()
    for told in ("splits", "classes", "class_counts", "warnings"):
        assert preview[told] == dataset[told], told
    details: dict[str, str] = {}
    for warning in dataset["warnings"]:
        details[warning["code"]] = details.get(warning["code"], "") + warning["detail"] + "\n"
    return dataset, details


def test_classes_are_counted_in_every_split(client: httpx.Client) -> None:
    rows = [{"a": index, "kind": "abb"[index % 3]} for index in range(600)]
    assert upload(client, "counted", encoded(rows, "a.csv"), "a.csv").status_code == 201
    dataset, warnings = found(client, "counted")
    assert dataset["splits"] == {"train": 459, "validation": 51, "test": 90}
    assert dataset["class_counts"] == {"train": [153, 306], "validation": [17, 34], "test": [30, 60]}
    assert warnings == {}


def test_what_is_in_two_splits_is_told(client: httpx.Client) -> None:
    rows = [{"text": f"Text {index // 2}", "label": index // 2 % 2} for index in range(600)]
    fields = {"task": "text-classification", "target": None}
    assert upload(client, "twice", encoded(rows, "a.jsonl"), "a.jsonl", **fields).status_code == 201
    _, warnings = found(client, "twice")
    assert warnings.keys() == {"duplicates"}
    assert "of the 90 test samples are also in the train split" in warnings["duplicates"]
    assert "of the 51 validation samples are also in the train split" in warnings["duplicates"]


def test_a_class_that_a_split_lacks_is_told(client: httpx.Client) -> None:
    content = {
        f"{split}/{colour}/{index}.png": noise(number + 40 * index)
        for number, (split, colour) in enumerate(
            [("train", "red"), ("train", "blue"), ("test", "red"), ("validation", "red"), ("validation", "blue")]
        )
        for index in range(30)
    }  # fmt: skip
    fields = {"task": "image-classification", "target": None}
    assert upload(client, "lacking", zipped(content), "a.zip", **fields).status_code == 201
    dataset, warnings = found(client, "lacking")
    assert dataset["class_counts"] == {"train": [30, 30], "validation": [30, 30], "test": [0, 30]}
    assert warnings.keys() == {"empty_class"}
    assert warnings["empty_class"].startswith("The test split has no sample of 'blue'")


def test_a_class_of_more_than_95_percent_is_told(client: httpx.Client) -> None:
    for name, rare in (("lopsided", 20), ("nearly", 31)):
        rows = [{"a": index, "kind": "rare" if index < rare else "usual"} for index in range(600)]
        assert upload(client, name, encoded(rows, "a.parquet"), "a.parquet").status_code == 201
    _, warnings = found(client, "lopsided")
    assert warnings.keys() == {"dominant_class"}
    assert warnings["dominant_class"].startswith("96.7% of all samples are 'usual'")
    assert found(client, "nearly")[1] == {}


def test_a_regression_has_no_classes_to_count(client: httpx.Client) -> None:
    rows = [{"a": index, "kind": 1.5 * index} for index in range(600)]
    fields = {"task": "tabular-regression"}
    assert upload(client, "sloping", encoded(rows, "a.csv"), "a.csv", **fields).status_code == 201
    dataset, _ = found(client, "sloping")
    assert dataset["class_counts"] is None


def test_a_built_in_set_is_counted_before_any_job_has_used_it(client: httpx.Client) -> None:
    preview = client.get("/datasets/digits/preview").json()
    assert {name: sum(counts) for name, counts in preview["class_counts"].items()} == preview["splits"]
