"""Models over HTTP."""

import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.app.serving import Registered, Running, age, assert_problem

Register = Callable[..., Registered]


def test_a_version_says_everything_about_itself(client: httpx.Client, register: Register) -> None:
    one = register(name="told")
    version = client.get("/models/told/versions/1").json()
    assert version == {
        "name": "told",
        "object": "model_version",
        "version": 1,
        "framework": "torch",
        "architecture": "linear",
        "task": "image-classification",
        "input": {"kind": "image", "height": 8, "width": 8, "channels": 1},
        "classes": list("0123456789"),
        "metrics": {"test_loss": 2.3},
        "dataset": {"id": client.get("/datasets/digits").json()["id"], "name": "digits"},
        "job": one.job_id,
        "spec": {"architecture": "linear"},
        "sha256": one.sha256,
        "size_bytes": version["size_bytes"],
        "parameters": 650,
        "created_at": version["created_at"],
        "aliases": [],
        "serving": {"precision": "float32", "agreement": {}},
    }


def test_versions_count_up_and_the_newest_is_the_champion(client: httpx.Client, register: Register) -> None:
    for seed in range(3):
        register(name="counted", seed=seed)
    model = client.get("/models/counted").json()
    assert [version["version"] for version in model["versions"]] == [3, 2, 1]
    assert model["champion"] == 3
    assert model["aliases"] == {}


def test_an_alias_is_set_moved_and_deleted(client: httpx.Client, register: Register) -> None:
    for seed in range(2):
        register(name="aliased", seed=seed)
    url = "/models/aliased/aliases/champion"
    answer = client.put(url, json={"version": 1})
    assert answer.status_code == 200
    assert answer.json()["aliases"] == ["champion"]
    assert client.get("/models/aliased").json()["champion"] == 1
    assert client.put(url, json={"version": 2}).json()["version"] == 2
    assert client.get("/models/aliased").json()["aliases"] == {"champion": 2}
    assert client.delete(url).json() == {
        "name": "aliased", "object": "model", "deleted": True, "versions": [], "aliases": ["champion"],
    }  # fmt: skip
    assert client.get("/models/aliased").json()["aliases"] == {}
    assert_problem(client.delete(url), 404)


@pytest.mark.parametrize(
    ("alias", "body", "status", "pointer", "hint"),
    [
        ("good", {"version": 9}, 404, None, "no version 9"),
        ("good", {"version": "1"}, 422, "/version", "valid integer"),
        ("good", {"version": 0}, 422, "/version", "greater than or equal to 1"),
        ("good", {"verson": 1}, 422, "/verson", "Did you mean 'version'?"),
        ("good", {}, 422, "/version", "required"),
        ("17", {"version": 1}, 422, "/alias", "mere number"),
        ("Bad", {"version": 1}, 422, "/alias", "cannot be an alias"),
    ],
)
def test_a_wrong_alias_is_refused(
    client: httpx.Client,
    register: Register,
    alias: str,
    body: Any,
    status: int,
    pointer: str | None,
    hint: str,
) -> None:
    register(name="strict")
    assert_problem(client.put(f"/models/strict/aliases/{alias}", json=body), status, pointer, hint)


def test_models_are_listed_newest_name_first(client: httpx.Client, register: Register) -> None:
    for name in ("listed-1", "listed-2", "listed-3"):
        register(name=name)
    page = client.get("/models?limit=2").json()
    assert [model["name"] for model in page["data"]] == ["listed-3", "listed-2"]
    assert page["has_more"] is True
    following = client.get("/models", params={"after": page["last_id"]}).json()
    assert following["data"][0]["name"] == "listed-1"


def test_weights_are_a_safetensors_file(client: httpx.Client, register: Register) -> None:
    one = register(name="downloaded")
    answer = client.get("/models/downloaded/versions/1/weights")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == one.sha256
    assert answer.headers["etag"] == f'"{one.sha256}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="downloaded-1.safetensors"'
    assert answer.headers["cache-control"] == "private, no-cache"
    found = load(answer.content)
    assert found.keys() == {"linear.weight", "linear.bias"}
    np.testing.assert_array_equal(found["linear.weight"], one.file.weights["linear.weight"])


def test_weights_that_the_client_has_are_not_sent_again(client: httpx.Client, register: Register) -> None:
    one = register(name="known")
    url = "/models/known/versions/1/weights"
    for tag in (f'"{one.sha256}"', f'"other", W/"{one.sha256}"', "*"):
        answer = client.get(url, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{one.sha256}"'
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_download_can_be_continued(client: httpx.Client, register: Register) -> None:
    register(name="ranged")
    url = "/models/ranged/versions/1/weights"
    whole = client.get(url).content
    first, rest = (client.get(url, headers={"Range": f"bytes={part}"}) for part in ("0-99", "100-"))
    assert first.status_code == rest.status_code == 206
    assert first.content + rest.content == whole
    for wrong in ("bytes=999999-", "bytes=x", "bytes=5-2"):
        answer = client.get(url, headers={"Range": wrong})
        assert_problem(answer, 416, "/headers/range")
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize("range", ["lines=1-2", "bytes", "0-99"])
def test_a_range_in_units_that_are_not_known_is_left_out(
    client: httpx.Client, register: Register, range: str
) -> None:
    register(name="in-lines")
    url = "/models/in-lines/versions/1/weights"
    answer = client.get(url, headers={"Range": range})
    assert (answer.status_code, answer.content) == (200, client.get(url).content)


def test_weights_that_are_not_the_wanted_ones_are_not_sent(client: httpx.Client, register: Register) -> None:
    one = register(name="matched")
    url = "/models/matched/versions/1/weights"
    for tag in (f'"{one.sha256}"', f'"other", "{one.sha256}"', "*"):
        assert client.get(url, headers={"If-Match": tag}).status_code == 200
    for tag in ('"other"', f'W/"{one.sha256}"', ""):
        answer = client.get(url, headers={"If-Match": tag, "If-None-Match": "*"})
        assert_problem(answer, 412, "/headers/if-match", one.sha256)
        assert answer.json()["code"] == "precondition_failed"


def test_a_version_is_deleted_with_its_aliases_and_weights(
    client: httpx.Client, server: Running, register: Register
) -> None:
    kept, gone = register(name="thinned", seed=21), register(name="thinned", seed=22)
    client.put("/models/thinned/aliases/best", json={"version": 2})
    for one in (kept, gone):
        age(server, one.sha256)
    answer = client.delete("/models/thinned/versions/2")
    assert answer.json()["versions"] == [2]
    assert answer.json()["aliases"] == ["best"]
    assert server.services.store.exists(kept.sha256)
    assert not server.services.store.exists(gone.sha256)
    assert_problem(client.get("/models/thinned/versions/2"), 404, None, "Known: 1")
    assert register(name="thinned", seed=23).version == 3


def test_a_model_is_deleted_whole(client: httpx.Client, register: Register) -> None:
    for seed in (11, 12):
        register(name="doomed", seed=seed)
    assert client.delete("/models/doomed").json()["versions"] == [2, 1]
    assert_problem(client.get("/models/doomed"), 404, None, "doomed")
    assert_problem(client.delete("/models/doomed"), 404)
    assert "doomed" not in {model["name"] for model in client.get("/models").json()["data"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/nothing", 404),
        ("/models/nothing/versions/1", 404),
        ("/models/nothing/versions/1/weights", 404),
        ("/models/nothing/versions/one", 422),
        ("/models/nothing/versions/0", 422),
        ("/models/nothing/versions/99999999999999999999", 422),
        ("/models/no%00thing", 422),
        ("/models/" + "x" * 300, 422),
    ],
)
def test_what_is_not_there_is_a_problem(client: httpx.Client, path: str, status: int) -> None:
    assert_problem(client.get(path), status)


def test_weights_missing_from_the_store_are_a_problem(
    client: httpx.Client, server: Running, register: Register
) -> None:
    one = register(name="lost", seed=77)
    server.services.store.delete(one.sha256)
    assert_problem(client.get("/models/lost/versions/1/weights"), 503)
