"""Bodies that are too large or too slow, over a real socket."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import Running, assert_problem, running, settings_in

MAX_BODY, MAX_UPLOAD = 50_000, 200_000
GRACE_S = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_in(
        Path(tmp_path_factory.mktemp("limits")),
        max_body_bytes=MAX_BODY,
        max_upload_bytes=MAX_UPLOAD,
        body_grace_s=GRACE_S,
        body_min_bytes_per_s=1000,
    )
    with running(settings) as server:
        yield server


@pytest.mark.parametrize("path", ["/jobs", "/predict", "/jobs/some/cancel", "/nowhere"])
def test_a_declared_size_over_the_cap_is_refused_before_the_body_comes(server: Running, path: str) -> None:
    with _connected(server) as connection:
        connection.sendall(_head(path, f"Content-Length: {MAX_BODY + 1}"))
        answer = _answer(connection)
    assert answer["status"] == 413
    assert str(MAX_BODY) in answer["detail"]


@pytest.mark.parametrize("path", ["/jobs", "/predict"])
def test_a_chunked_body_over_the_cap_is_refused_as_it_comes(server: Running, path: str) -> None:
    with _connected(server) as connection:
        connection.sendall(_head(path, "Transfer-Encoding: chunked"))
        for _ in range(6):
            connection.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        answer = _answer(connection)
    assert answer["status"] == 413


def test_uploads_have_a_cap_of_their_own(server: Running) -> None:
    form = {"name": "wide", "task": "tabular-classification"}
    between = server.client.post("/datasets", data=form, files={"file": ("a.csv", b"a" * (MAX_BODY + 1))})
    assert_problem(between, 422)
    over = server.client.post("/datasets", data=form, files={"file": ("a.csv", b"a" * MAX_UPLOAD)})
    assert_problem(over, 413)


def test_a_chunked_upload_over_the_cap_leaves_no_file(server: Running) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        for _ in range(MAX_UPLOAD // 10_000 + 1):
            yield b"1" * 10_000

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(server.client.post("/datasets", content=pieces(), headers=headers), 413)
    assert list(server.services.settings.uploads_dir.iterdir()) == []


def test_a_trickling_body_is_given_up(server: Running) -> None:
    began = time.monotonic()
    with _connected(server) as connection:
        connection.sendall(_head("/jobs", "Content-Length: 1000"))
        answer = _answer(connection, trickle=b" ")
    assert answer["status"] == 408
    assert GRACE_S <= time.monotonic() - began < GRACE_S + 2


def test_a_slow_but_steady_body_is_taken(server: Running) -> None:
    began = time.monotonic()
    with _connected(server) as connection:
        connection.sendall(_head("/jobs", "Content-Length: 4000"))
        for _ in range(8):
            time.sleep(0.1)
            connection.sendall(b" " * 500)
        answer = _answer(connection)
    assert time.monotonic() - began > GRACE_S
    assert answer["status"] == 400  # it is all blanks, but it was read


def _connected(server: Running) -> socket.socket:
    return socket.create_connection(server.address, timeout=10)


def _head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _answer(connection: socket.socket, trickle: bytes = b"") -> dict[str, Any]:
    """The problem that comes back. Until then `trickle` is sent again and again."""
    received = b""
    connection.settimeout(0.05 if trickle else 10)
    deadline = time.monotonic() + 10
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        assert time.monotonic() < deadline, received
        try:
            received += connection.recv(65536)
        except TimeoutError:
            connection.sendall(trickle)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    answer: dict[str, Any] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {answer['status']} ".encode())
    return answer
