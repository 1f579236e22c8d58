"""Datasets over HTTP."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.serving import Running, age, assert_problem
from workers.identifiers import new_id

ROWS = 60
CSV = "width,height,kind\n" + "".join(f"{i},{i * 2 + 1},{'ab'[i % 2]}\n" for i in range(ROWS))
FIELDS = {"task": "tabular-classification", "target": "kind"}


def upload(
    client: httpx.Client, name: str, content: bytes | str = CSV, filename: str = "data.csv", **changes: Any
) -> httpx.Response:
    fields = {key: value for key, value in {"name": name, **FIELDS, **changes}.items() if value is not None}
    headers = fields.pop("headers", {})
    return client.post("/datasets", data=fields, files={"file": (filename, content)}, headers=headers)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_file_is_left(server: Running) -> Any:
    yield
    assert list(server.services.settings.uploads_dir.iterdir()) == []


def test_a_table_is_uploaded(client: httpx.Client) -> None:
    answer = upload(client, "table")
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert answer.headers["location"] == f"/datasets/{dataset['id']}"
    assert dataset["task"] == "tabular-classification"
    assert dataset["classes"] == ["a", "b"]
    assert dataset["target"] == "kind"
    assert dataset["input"] == {
        "kind": "table", "features": 2, "columns": ["width", "height"], "fields": None,
    }  # fmt: skip
    assert sum(dataset["splits"].values()) == ROWS
    assert len(dataset["sha256"]) == 64
    assert dataset["size_bytes"] > 0
    assert client.get(f"/datasets/{dataset['id']}").json() == dataset
    assert client.get("/datasets/table").json() == dataset


def test_images_are_uploaded(client: httpx.Client) -> None:
    content = npz(x=images(), y=np.arange(40) % 4)
    answer = upload(client, "images", content, "any/odd\\name.NPZ", task="image-classification", target=None)
    assert answer.status_code == 201, answer.text
    assert answer.json()["input"] == {"kind": "image", "height": 8, "width": 8, "channels": 1}


def test_equal_files_give_equal_datasets(client: httpx.Client) -> None:
    first, second = (upload(client, name).json() for name in ("twin-1", "twin-2"))
    assert first["sha256"] == second["sha256"]
    assert first["id"] != second["id"]


def test_the_test_fraction_counts(client: httpx.Client) -> None:
    assert upload(client, "halved", test_fraction="0.5").json()["splits"]["test"] == ROWS // 2


def test_the_validation_fraction_is_of_the_other_rows(client: httpx.Client) -> None:
    fractions = {"test_fraction": "0.5", "validation_fraction": "0.5"}
    splits = upload(client, "quartered", **fractions).json()["splits"]
    assert splits == {"train": ROWS // 4, "validation": ROWS // 4, "test": ROWS // 2}


def test_an_uploaded_dataset_can_be_trained_on(client: httpx.Client) -> None:
    dataset = upload(client, "trainable").json()
    body = {
        "framework": "jax",
        "dataset": "trainable",
        "model": {"architecture": "mlp"},
        "training": {"epochs": 1},
    }
    job = client.post("/jobs", json=body).json()
    assert job["dataset"] == {"id": dataset["id"], "name": "trainable", "sha256": dataset["sha256"]}
    assert_problem(client.delete("/datasets/trainable"), 409, None, job["id"])
    client.post(f"/jobs/{job['id']}/cancel")
    assert client.delete("/datasets/trainable").status_code == 200


def test_the_same_key_uploads_once(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "upload"}
    first, again = (upload(client, "once", headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    other = upload(client, "once", CSV.replace("0,1,a", "9,1,a"), headers=headers)
    assert_problem(other, 422, "/headers/idempotency-key")


def test_an_upload_is_deleted(client: httpx.Client, server: Running) -> None:
    dataset = upload(client, "gone", CSV.replace("kind", "sort"), target="sort").json()
    assert server.services.store.exists(dataset["sha256"])
    age(server, dataset["sha256"])
    answer = client.delete("/datasets/gone")
    assert answer.json() == {"id": dataset["id"], "object": "dataset", "name": "gone", "deleted": True}
    assert not server.services.store.exists(dataset["sha256"])
    assert_problem(client.get("/datasets/gone"), 404)
    assert_problem(client.delete("/datasets/gone"), 404)


def test_built_in_datasets_are_there_and_stay(client: httpx.Client) -> None:
    digits = client.get("/datasets/digits").json()
    assert digits["builtin"] is True
    assert digits["splits"] == {"train": 1374, "validation": 153, "test": 270}
    listed = client.get("/datasets?limit=200").json()["data"]
    assert {"digits", "diabetes", "mnist", "fashion-mnist", "cifar10", "cifar100"} <= {
        one["name"] for one in listed
    }
    assert_problem(client.delete("/datasets/digits"), 409, None, "built in")


def test_a_dataset_may_be_named_like_the_beginning_of_an_id(client: httpx.Client) -> None:
    dataset = upload(client, "ds_flowers").json()
    assert (
        client.get("/datasets/ds_flowers").json()
        == client.get(f"/datasets/{dataset['id']}").json()
        == dataset
    )
    assert client.delete("/datasets/ds_flowers").status_code == 200


def test_a_preview_of_a_table_shows_its_rows(client: httpx.Client) -> None:
    upload(
        client, "shown", "größe,breite,kind\n" + "".join(f"0.{i},{i},{'ab'[i % 2]}\n" for i in range(1, 60))
    )
    preview = client.get("/datasets/shown/preview?limit=3").json()
    assert (preview["object"], preview["name"], preview["split"]) == ("dataset_preview", "shown", "train")
    assert len(preview["rows"]) == 3
    for row in preview["rows"]:
        assert row["input"]["größe"] == float(f"0.{row['input']['breite']:.0f}")
        assert row["label"] == "ab"[int(row["input"]["breite"]) % 2]
        assert row["value"] is None


def test_a_preview_of_images_shows_files_that_predict_takes(client: httpx.Client) -> None:
    content = npz(x=images(), y=np.arange(40) % 4)
    upload(client, "pictured", content, "a.npz", task="image-classification", target=None)
    preview = client.get("/datasets/pictured/preview?split=test").json()
    assert {row["label"] for row in preview["rows"]} <= set("0123")
    picture = Image.open(io.BytesIO(base64.b64decode(preview["rows"][0]["input"]["image"])))
    assert any(np.array_equal(np.asarray(picture), image) for image in images())


def test_what_is_shipped_has_a_preview_before_any_job_and_what_is_downloaded_after_one(
    client: httpx.Client,
) -> None:
    assert len(client.get("/datasets/digits/preview").json()["rows"]) == 8
    row = client.get("/datasets/diabetes/preview?limit=1").json()["rows"][0]
    assert row["label"] is None
    assert 25 <= row["value"] <= 346
    assert_problem(client.get("/datasets/cifar10/preview"), 409, None, "first job")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "split=all", "after=1"])
def test_a_wrong_preview_is_explained(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/datasets/digits/preview?{query}"), 422, f"/{query.partition('=')[0]}")


def test_a_sentence_that_begins_with_a_field_keeps_its_name(client: httpx.Client) -> None:
    assert_problem(upload(client, "bad", test_fraction="2"), 422, None, "test_fraction must")
    short = npz(x=images(), y=np.arange(7))
    answer = upload(client, "bad", short, "a.npz", task="image-classification", target=None)
    assert_problem(answer, 422, "/file", "x has 40 rows but y has 7")


def test_an_unknown_dataset_comes_with_the_nearest_name(client: httpx.Client) -> None:
    assert_problem(client.get("/datasets/cifar-10"), 404, None, "Did you mean 'cifar10'?")


@pytest.mark.parametrize(
    ("changes", "status", "pointer", "hint"),
    [
        ({"name": "digits"}, 409, "/name", "built-in"),
        ({"name": "A b"}, 422, "/name", "pattern"),
        ({"name": new_id("ds")}, 422, "/name", "choose another name"),
        ({"name": None}, 422, "/name", "required"),
        ({"task": None}, 422, "/task", "required"),
        ({"task": "image-clasification"}, 422, "/task", "Did you mean 'image-classification'?"),
        ({"taks": "x"}, 422, "/taks", "Did you mean 'task'?"),
        ({"task": "text-classification"}, 422, "/text", "no column 'text'"),
        ({"task": "text-classification", "text": "kind"}, 422, "/text", "two columns"),
        ({"columns": "{"}, 422, "/columns", ""),
        ({"columns": '{"width": "number"}'}, 422, "/columns/width", "numeric"),
        ({"columns": '{"widht": "numeric"}'}, 422, "/columns/widht", "Did you mean 'width'?"),
        ({"size": "large"}, 422, "/size", "48x64"),
        ({"size": "0"}, 422, "/size", "4096"),
        ({"channels": "2"}, 422, "/channels", "3"),
        ({"resize": "squeeze"}, 422, "/resize", "stretch"),
        ({"target": "knd"}, 422, "/target", "kind"),
        ({"test_fraction": "2"}, 422, "/test_fraction", "between"),
        ({"validation_fraction": "0"}, 422, "/validation_fraction", "between"),
        ({"test_fraction": "half"}, 422, "/test_fraction", "valid number"),
        ({"test_fraction": "nan"}, 422, "/test_fraction", ""),
        ({"filename": "data.xlsx"}, 422, "/file", ".csv"),
        ({"filename": "data"}, 422, "/file", ".csv"),
        ({"content": b"PK\x03\x04 no archive", "filename": "a.npz"}, 422, None, ""),
        ({"content": CSV.replace("7,15", "7,fifteen")}, 422, None, "height"),
        ({"content": ""}, 422, None, ""),
        ({"content": "a,kind\n1,x\n2,z\n"}, 422, "/file", "too few"),
        ({"content": "a,kind\n1,2\n2,2\n", "task": "tabular-regression"}, 422, "/file", "same value"),
        ({"content": b"\xff\xfe"}, 422, None, ""),
        (
            {"content": npz(x=images(), y=np.zeros(7)), "filename": "a.npz", "task": "image-classification"},
            422, None, "",
        ),
        (
            {"content": npz(x=np.full(3, None), y=np.zeros(3)), "filename": "a.npz", "task": "image-classification"},
            422, None, "",
        ),
    ],
)  # fmt: skip
def test_a_bad_upload_is_refused_with_its_reason(
    client: httpx.Client, changes: dict[str, Any], status: int, pointer: str | None, hint: str
) -> None:
    assert_problem(upload(client, **{"name": "bad", **changes}), status, pointer, hint)
    assert client.get("/datasets/bad").status_code == 404


def test_a_taken_name_is_refused(client: httpx.Client) -> None:
    assert upload(client, "taken").status_code == 201
    assert_problem(upload(client, "taken"), 409, "/name", "another dataset")


def multipart(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


FILE = b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + CSV.encode()
NAME = b'Content-Disposition: form-data; name="name"\r\n\r\nraw'
TASK = b'Content-Disposition: form-data; name="task"\r\n\r\ntabular-classification'

MANY_FIELDS = multipart(*(NAME.replace(b'me"', b'%d"' % number) for number in range(40)))


@pytest.mark.parametrize(
    ("content_type", "body", "status", "pointer"),
    [
        ("application/json", b"{}", 415, "/headers/content-type"),
        ("multipart/form-data", multipart(FILE), 400, "/headers/content-type"),
        ("multipart/form-data; boundary=", multipart(FILE), 400, "/headers/content-type"),
        ("multipart/form-data; boundary=x", b"", 400, None),
        ("multipart/form-data; boundary=x", b"no boundary at all", 400, None),
        ("multipart/form-data; boundary=x", multipart(FILE, end=b""), 400, None),
        ("multipart/form-data; boundary=x", multipart(b"X-Nothing: 1\r\n\r\nvalue"), 400, None),
        ("multipart/form-data; boundary=x", multipart(NAME, TASK), 422, "/file"),
        ("multipart/form-data; boundary=x", multipart(FILE, FILE, NAME, TASK), 413, "/file"),
        ("multipart/form-data; boundary=x", multipart(FILE.replace(b'"file"', b'"data"'), NAME, TASK), 422, "/data"),
        ("multipart/form-data; boundary=x", multipart(FILE, NAME, NAME, TASK), 422, "/name"),
        ("multipart/form-data; boundary=x", multipart(FILE, NAME, TASK.replace(b"tabular", b"\xff")), 400, "/task"),
        ("multipart/form-data; boundary=x", multipart(FILE, NAME + b"x" * 70_000, TASK), 413, "/name"),
        ("multipart/form-data; boundary=x", MANY_FIELDS, 413, None),
    ],
)  # fmt: skip
def test_a_broken_form_is_refused(
    client: httpx.Client, content_type: str, body: bytes, status: int, pointer: str | None
) -> None:
    answer = client.post("/datasets", content=body, headers={"Content-Type": content_type})
    assert_problem(answer, status, pointer)
