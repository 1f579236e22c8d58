"""Who is answered: the server's own names, its own pages, and those with the key."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.security import hostname
from tests.app.serving import Running, assert_problem, running, settings_in

KEY = "correct-horse-battery-staple"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]"])
@pytest.mark.parametrize("path", ["/jobs", "/healthz", "/docs", "/nowhere"])
def test_a_foreign_host_is_refused(client: httpx.Client, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert_problem(answer, 400, "/headers/host", "TANDEM_ALLOWED_HOSTS")
    assert answer.json()["code"] == "foreign_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8000", "localhost.:80"])
def test_its_own_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("authority", "name"), [("[::1]:80", "[::1]"), ("A.example.:1", "a.example"), ("host", "host")]
)
def test_the_name_in_an_authority(authority: str, name: str) -> None:
    assert hostname(authority) == name


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://[x", "http://[", "//"]
)
def test_pages_of_other_sites_may_not_change_anything(client: httpx.Client, origin: str) -> None:
    answer = client.post("/jobs", content=b"{}", headers={"Origin": origin})
    assert_problem(answer, 403, "/headers/origin")


def test_its_own_pages_may(client: httpx.Client) -> None:
    answer = client.post("/jobs", content=b"{}", headers={"Origin": "http://localhost:8000"})
    assert answer.status_code == 422


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(settings_in(Path(tmp_path_factory.mktemp("locked")), api_key=KEY)) as server:
        yield server


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        KEY,
        f"Basic {KEY}",
        "Bearer",
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \xff",
    ],
)
def test_without_the_key_nothing_is_answered(locked: Running, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    for path in ("/jobs", "/metrics", "/openapi.json", "/nowhere"):
        answer = locked.client.get(path, headers=headers)
        assert_problem(answer, 401, None, "Bearer")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert KEY not in answer.text


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer  {KEY}"])
def test_the_key_opens(locked: Running, authorization: str) -> None:
    assert locked.client.get("/jobs", headers={"Authorization": authorization}).status_code == 200


def test_health_needs_no_key(locked: Running) -> None:
    assert locked.client.get("/healthz").status_code == 200
    assert locked.client.get("/readyz").json()["code"] == "not_ready"
