"""Bad files over HTTP: each is refused by its row or file, and leaves nothing behind."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.app.serving import Running, assert_problem, registered

ROWS = [
    {"width": index, "side": ("left", "right")[index % 2], "kind": "ab"[index % 2]} for index in range(60)
]
TEXTS = [
    {"text": f"number {index} is {('even', 'odd')[index % 2]}", "label": index % 2} for index in range(60)
]
TABLE = {"task": "tabular-classification", "target": "kind"}
TEXT = {"task": "text-classification"}
IMAGES = {"task": "image-classification"}
SNOW = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)


def csv(rows: list[dict[str, Any]] = ROWS, extra: str = "") -> bytes:
    lines = [",".join(map(str, row.values())) for row in rows]
    return "\n".join([",".join(rows[0]), *lines, extra]).encode()


def jsonl(rows: list[dict[str, Any]] = TEXTS, extra: str = "") -> bytes:
    return "\n".join([*map(json.dumps, rows), extra]).encode()


def table(rows: list[dict[str, Any]] = ROWS, **columns: Any) -> bytes:
    file = io.BytesIO()
    found = pa.Table.from_pylist(rows)
    for name, values in columns.items():
        found = found.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    parquet.write_table(found, file)
    return file.getvalue()


def picture(mode: str = "RGB", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(SNOW).convert(mode).save(file, kind)
    return file.getvalue()


def wide_png(width: int) -> bytes:
    """A whole PNG of one row with so many pixels: a few KB however wide."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (3 * width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zipped(extra: dict[str, bytes], classes: str = "ab") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in classes:
            for index in range(12):
                archive.writestr(f"{name}/{index}.png", picture())
        for name, data in extra.items():
            archive.writestr(name, data)
    return file.getvalue()


def no_unicode() -> pa.Array:
    words = [b"word %d" % index for index in range(59)] + [b"\xff"]
    return pa.Array.from_buffers(pa.string(), len(words), pa.array(words).buffers())


def repeated_text() -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["word " * 200_000])


@pytest.fixture(autouse=True)
def nothing_is_left_behind(server: Running) -> Iterator[None]:
    """No dataset, no file in the uploads folder, nothing new among the artifacts; and the name is free."""
    settings, client = server.services.settings, server.client

    def kept() -> tuple[list[Path], list[str]]:
        listed = client.get("/datasets?limit=200").json()["data"]
        return sorted(settings.artifacts_dir.rglob("*")), [one["id"] for one in listed]

    before = kept()
    yield
    assert list(settings.uploads_dir.iterdir()) == []
    assert kept() == before
    assert client.get("/datasets/bad").status_code == 404
    assert upload(client, "good.csv", csv(), TABLE).status_code == 201
    assert client.delete("/datasets/bad").status_code == 200


def upload(
    client: httpx.Client, filename: str, content: bytes, fields: dict[str, str], **headers: str
) -> httpx.Response:
    return client.post(
        "/datasets", data={"name": "bad", **fields}, files={"file": (filename, content)}, headers=headers
    )


@pytest.mark.parametrize(
    ("extra", "fields", "words"),
    [
        ({"a/x.png": picture()[:200]}, {}, "'a/x.png': The image is damaged or cut short"),
        ({"a/x.jpg": picture(kind="JPEG")[:300]}, {}, "'a/x.jpg': The image is damaged or cut short"),
        ({"a/x.png": b"not a picture"}, {}, "'a/x.png': This is not a readable image"),
        ({"a/x.png": b""}, {}, "'a/x.png': This is not a readable image"),
        ({"b/x.png": picture("L")}, {}, "'b/x.png' is grey, and most images are coloured"),
        ({"b/x.png": wide_png(1_000_000)}, {}, "'b/x.png': The image is 1000000 pixels wide"),
        ({"../x.png": picture()}, {}, "'../x.png' leads out of the archive"),
        ({"a/../../x.png": picture()}, {}, "'a/../../x.png' leads out of the archive"),
        ({"/x/x.png": picture()}, {}, "'/x/x.png' leads out of the archive"),
        ({"c/": b""}, {}, "'c/' is a class folder without images"),
        ({"a/zeros.png": b"\0" * 80_000_000}, {}, "The archive unpacks to"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_a_bad_archive_of_images_is_refused(
    client: httpx.Client, extra: dict[str, bytes], fields: dict[str, str], words: str
) -> None:
    assert_problem(upload(client, "a.zip", zipped(extra), IMAGES | fields), 422, "/file", words)


def test_an_archive_of_one_class_is_refused(client: httpx.Client) -> None:
    answer = upload(client, "a.zip", zipped({}, "a"), IMAGES)
    assert_problem(answer, 422, "/file", "The archive holds a single class, 'a'")
    assert answer.json()["code"] == "single_class"


def test_an_archive_that_is_cut_short_is_refused(client: httpx.Client) -> None:
    answer = upload(client, "a.zip", zipped({})[:-30], IMAGES)
    assert_problem(answer, 422, "/file", "The file is not a readable zip archive")


@pytest.mark.parametrize(
    ("filename", "content", "fields", "pointer", "words"),
    [
        ("a.csv", csv(extra="7,left"), TABLE, "/file", "Row 62 has 2 cell(s) but the header has 3"),
        ("a.csv", csv(extra="7,left,a,9"), TABLE, "/file", "Row 62 has 4 cell(s) but the header has 3"),
        ("a.csv", csv(extra='7,left,"a'), TABLE, "/file", "Row 62 opens a quotation mark that is never closed"),
        ("a.csv", csv(TEXTS, "only a text"), TEXT, "/file", "Row 62 has 1 cell(s) but the header has 2"),
        ("a.csv", csv(extra="many,left,a"), TABLE, "/file", "Row 62, column 'width': 'many' is not a number"),
        ("a.csv", csv(extra="7,left,"), TABLE, "/file", "Row 62, column 'kind' is empty"),
        ("a.csv", csv(), TABLE | {"target": "sort"}, "/target", "The file has no column 'sort'"),
        ("a.csv", csv(TEXTS), TEXT | {"text": "words"}, "/text", "The file has no column 'words'"),
        ("a.csv", csv(), TABLE | {"columns": '{"height": "ignore"}'}, "/columns/height", "The file has no column"),
        ("a.jsonl", jsonl(ROWS), TABLE | {"target": "sort"}, "/target", "The file has no column 'sort'"),
        ("a.jsonl", jsonl(TEXTS, '{"text": "seven"}'), TEXT, "/file", "Line 61, column 'label' is empty"),
        ("a.jsonl", jsonl(TEXTS, '{"text": [1]}'), TEXT, "/file", "Line 61, column 'text', holds a list"),
        ("a.jsonl", jsonl(TEXTS, "{"), TEXT, "/file", "Line 61 is not valid JSON"),
        ("a.jsonl", jsonl(ROWS, '{"width": 1, "side": "\\ud800", "kind": "a"}'), TABLE, "/file", "Line 61, column"),
        ("a.parquet", table(), TABLE | {"target": "sort"}, "/target", "The file has no column 'sort'"),
        ("a.parquet", table(tags=[[1]] * 60), TABLE, "/file", "Column 'tags' is nested"),
        ("a.parquet", table(at=[{"x": 1}] * 60), TABLE, "/file", "Column 'at' is nested"),
        ("a.parquet", table(TEXTS, more=[{"x": 1}] * 60), TEXT | {"text": "more"}, "/file", "Column 'more' is nested"),
        ("a.parquet", table(sort=[["a"], ["b"]] * 30), TABLE | {"target": "sort"}, "/file", "Column 'sort' is nested"),
        ("a.parquet", table(name=no_unicode()), TABLE, "/file", "Row 60, column 'name' is not a text in UTF-8"),
        ("a.parquet", table([{"label": 1}] * 2000, text=repeated_text()), TEXT, "/file", "Up to row 68"),
        ("a.parquet", table()[:-20], TABLE, "/file", "The file is not a readable Parquet file"),
        ("a.csv", csv([{**row, "kind": "a"} for row in ROWS]), TABLE, "/file", "'kind' holds a single class, 'a'"),
        ("a.jsonl", jsonl([{**row, "label": 1} for row in TEXTS]), TEXT, "/file", "'label' holds a single class, '1'"),
        ("a.parquet", table([{**row, "kind": "a"} for row in ROWS]), TABLE, "/file", "holds a single class, 'a'"),
        ("a.jsonl", jsonl([{**row, "text": "?! \u2026"} for row in TEXTS]), TEXT, "/file", "No text of column 'text'"),
        ("a.csv", csv([{**row, "text": "-"} for row in TEXTS]), TEXT, "/file", "No text of column 'text'"),
        ("a.parquet", table([{**row, "text": "*"} for row in TEXTS]), TEXT, "/file", "No text of column 'text'"),
    ],
)  # fmt: skip
def test_a_bad_file_of_rows_is_refused(
    client: httpx.Client, filename: str, content: bytes, fields: dict[str, str], pointer: str, words: str
) -> None:
    assert_problem(upload(client, filename, content, fields), 422, pointer, words)


def test_a_refused_upload_does_not_use_up_its_key(client: httpx.Client) -> None:
    bad = csv(extra="7,left")
    for _ in range(2):
        answer = upload(client, "a.csv", bad, TABLE, **{"Idempotency-Key": "again"})
        assert_problem(answer, 422, "/file", "Row 62")
    assert upload(client, "a.csv", csv(), TABLE, **{"Idempotency-Key": "again"}).status_code == 201
    assert client.delete("/datasets/bad").status_code == 200


@pytest.fixture(scope="module")
def parity(server: Running) -> str:
    """The name of a model for texts whose every word is in TEXTS."""
    fields = {"name": "parity", **TEXT}
    answer = server.client.post("/datasets", data=fields, files={"file": ("a.jsonl", jsonl())})
    assert answer.status_code == 201, answer.text
    model = {"architecture": "bilstm", "embedding": 4, "hidden": 4, "layers": 1, "length": 8}
    return registered(server.services, "parity", model=model, name="parity-model").name


@pytest.mark.parametrize("engine", ["torch", "jax"])
def test_a_text_of_unknown_words_only_is_refused_by_its_place(
    client: httpx.Client, parity: str, engine: str
) -> None:
    known, unknown = (
        "7 is a number",
        "\u043d\u0435\u0447\u0435\u0442\u043d\u043e\u0435 \u0447\u0438\u0441\u043b\u043e",
    )
    body = {"model": parity, "engine": engine, "inputs": [known, unknown]}
    answer = client.post("/predict", json=body)
    assert_problem(answer, 422, "/inputs/1", "None of this text's words is known")
    assert answer.json()["code"] == "unknown_text"
    assert client.post("/predict", json={**body, "inputs": [known, f"number {unknown}"]}).status_code == 200
