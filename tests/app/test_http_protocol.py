"""Requests byte by byte: in pieces, several at once, with heads that came before, on connections that wait or go."""

import gc
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.prediction.http_protocol import Exchange
from tests.app.rows_model import KEY, ROW, body
from tests.app.serving import Running, registered, running, settings_in, slowed

GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def raw(address: tuple[str, int], *pieces: bytes, pause_s: float = 0.1) -> bytes:
    """What comes back when these bytes are sent one after the other: an answer to each request, or fewer if the server
    closes the connection."""
    requests = b"".join(pieces).count(b"POST /")
    found = b""
    with socket.create_connection(address, timeout=10) as line:
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause_s)
        while len(answers(found)) < requests and (more := line.recv(65536)):
            found += more
    return found


def answers(found: bytes) -> list[tuple[int, Any]]:
    """Status and body of each that is whole."""
    told = []
    while b"\r\n\r\n" in found:
        top, _, rest = found.partition(b"\r\n\r\n")
        size = next(
            int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        if len(rest) < size:
            break
        told.append((int(top[9:12]), json.loads(rest[:size])))
        found = rest[size:]
    return told


def head(size: int, *more: str) -> bytes:
    lines = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}", *more)
    return "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {size}", "", "")).encode()


def test_a_body_that_comes_in_pieces_is_taken(guarded: Running) -> None:
    content = body()
    found = raw(guarded.address, head(len(content)), content[:40], content[40:])
    assert found.startswith(b"HTTP/1.1 200")


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    with running(settings_in(tmp_path, body_grace_s=0.3)) as server:
        for _ in range(2):
            found = raw(server.address, head(100), pause_s=1)
            assert found.startswith(b"HTTP/1.1 408")
            assert b"slow_body" in found


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is given to the HTTP parser."""
    found: list[bytes] = []
    parse = HttpToolsProtocol.data_received

    def noting(self: HttpToolsProtocol, data: bytes) -> None:
        found.append(data)
        parse(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", noting)
    return found


def test_a_head_that_came_before_is_not_parsed_again(guarded: Running, parsed: list[bytes]) -> None:
    content = body(top_k=1)
    whole = head(len(content), "X-Test: again") + content
    told = answers(raw(guarded.address, whole, whole, whole))
    assert parsed == [whole]
    assert [status for status, _ in told] == [200] * 3
    other = body(top_k=1, inputs=[[1.0, *ROW[1:]]])  # other numbers, and another length
    assert answers(raw(guarded.address, head(len(other), "X-Test: again") + other))[0][0] == 200
    assert len(parsed) == 2


def test_bodies_behind_such_a_head_may_come_in_pieces(guarded: Running, parsed: list[bytes]) -> None:
    content = body()
    top = head(len(content), "X-Test: pieces")
    assert answers(raw(guarded.address, top + content))[0][0] == 200
    found = raw(guarded.address, top, content[:9], content[9:] + top, content, pause_s=0.02)
    # What comes with the next request is parsed after all.
    assert [status for status, _ in answers(found)] == [200, 200]
    assert parsed == [top + content, top + content + top, content]
    del parsed[:]
    assert answers(raw(guarded.address, top, content[:9], content[9:], pause_s=0.02))[0][0] == 200
    assert parsed == []


def test_two_requests_at_once_are_answered_in_their_order(guarded: Running) -> None:
    one, two = body(), body(inputs=[ROW, ROW])
    whole = head(len(one)) + one + head(len(two)) + two + head(len(one)) + one
    for _ in range(3):
        told = answers(raw(guarded.address, whole, pause_s=0.3))
        assert [len(each["predictions"]) for _, each in told] == [1, 2, 1]


def test_a_wrong_request_behind_such_a_head_is_told_and_the_next_is_answered(
    guarded: Running, parsed: list[bytes]
) -> None:
    good, wrong = body(), body(inputs=[[*ROW[:-1], "8700"]])[: len(body())]
    top = head(len(good), "X-Test: wrong")
    assert len(wrong) == len(good)
    assert answers(raw(guarded.address, top + good))[0][0] == 200
    told = answers(raw(guarded.address, top + wrong, top + good))
    assert [status for status, _ in told] == [400, 200]
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "strange",
    [
        b"\r\n\r\n" + head(len(body())),  # llhttp leaves out empty lines before a request
        head(len(body()), "X-Request-Id: mine"),
        head(len(body()), "Connection: close"),
        head(len(body()), "X-Long: " + "x" * 3000),
    ],
)
def test_other_heads_are_parsed_each_time(strange: bytes, guarded: Running, parsed: list[bytes]) -> None:
    for _ in range(2):
        assert answers(raw(guarded.address, strange + body()))[0][0] == 200
    assert parsed == [strange + body()] * 2


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """How many exchanges there are, with nobody to find those that lead back to themselves."""
    gc.collect()
    gc.disable()
    yield lambda: sum(type(one) is Exchange for one in gc.get_objects())
    gc.enable()


def test_requests_leave_nothing_for_the_garbage_collector(
    guarded: Running, uncollected: Callable[[], int]
) -> None:
    wrong = body(inputs=[[*ROW[:-1], "x"]])
    whole = head(len(body())) + body()
    for _ in range(10):
        raw(guarded.address, whole, whole, pause_s=0.01)
        raw(guarded.address, head(len(wrong)) + wrong, whole, pause_s=0.05)
    time.sleep(0.2)
    assert uncollected() <= 1  # that of the fixture's client


def test_a_connection_that_goes_before_its_body_has_come_leaves_nothing(guarded: Running) -> None:
    content = body()
    top = head(len(content), "X-Test: gone")
    assert answers(raw(guarded.address, top + content))[0][0] == 200
    for _ in range(5):
        with socket.create_connection(guarded.address, timeout=10) as line:
            line.sendall(top + content[:9])
            time.sleep(0.02)
    time.sleep(0.2)
    assert answers(raw(guarded.address, top + content))[0][0] == 200


def test_a_connection_is_kept_while_it_is_used_and_closed_when_it_is_idle(tmp_path: Path) -> None:
    with running(settings_in(tmp_path), timeout_keep_alive=1) as server:
        registered(server.services, dataset="diabetes", name="rows")
        content = body()
        for target in ("/predict", "/healthz"):  # both kinds of exchange
            whole = head(len(content)) + content if target == "/predict" else GET % target.encode()
            with socket.create_connection(server.address, timeout=10) as line:
                for _ in range(5):
                    line.sendall(whole)
                    assert line.recv(65536).startswith(b"HTTP/1.1 200")
                    time.sleep(0.4)
                began = time.monotonic()
                assert line.recv(65536) == b""
                assert 0.3 < time.monotonic() - began < 3


def test_an_exchange_that_takes_longer_than_connections_are_kept_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_in(tmp_path), timeout_keep_alive=1) as server:
        model = registered(server.services, dataset="diabetes", name="rows")
        content = body()
        whole = head(len(content)) + content
        assert answers(raw(server.address, whole))[0][0] == 200
        slowed(server, model, 1.5, monkeypatch)
        with socket.create_connection(server.address, timeout=10) as line:
            line.sendall(whole)
            assert answers(line.recv(65536))[0][0] == 200
            line.sendall(whole * 2)
            found = b""
            while found.count(b"HTTP/1.1 200") < 2:
                more = line.recv(65536)
                assert more, "cut"
                found += more
