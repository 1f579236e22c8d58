"""Uploads of pictures, texts and tables of all kinds, over HTTP."""

import base64
import io
import json
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.serving import Running, assert_problem


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


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"../../x.png": coloured("red")}, "leads out"),
        ({"red/broken.png": coloured("red")[:40]}, "red/broken.png"),
        ({"red/note.txt": b"no picture"}, "red/note.txt"),
        ({"green/": b""}, "without images"),
    ],
)
def test_a_bad_archive_leaves_nothing_behind(
    client: httpx.Client, server: Running, extra: dict[str, bytes], words: str
) -> None:
    settings = server.services.settings
    before = sorted(settings.artifacts_dir.rglob("*"))
    content = zipped({**PICTURES, **extra})
    answer = upload(client, "bad", content, "a.zip", task="image-classification", target=None)
    assert_problem(answer, 422, "/file", words)
    assert client.get("/datasets/bad").status_code == 404
    assert list(settings.uploads_dir.iterdir()) == []
    assert sorted(settings.artifacts_dir.rglob("*")) == before
