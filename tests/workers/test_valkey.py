"""The embedded Valkey server: private, durable, and gone when we are."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from models.errors import Unavailable
from workers.valkey import LONGEST_SOCKET_PATH, EmbeddedValkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "broker") as server:
        yield server


def client(server: EmbeddedValkey) -> Redis:
    return Redis(unix_socket_path=str(server.socket), socket_timeout=2)


def setting(server: EmbeddedValkey, name: str) -> str:
    with client(server) as connection:
        return str(connection.config_get(name)[name])


def test_it_answers_through_its_socket_in_under_a_second(tmp_path: Path) -> None:
    began = time.monotonic()
    with EmbeddedValkey(tmp_path / "broker") as server, client(server) as connection:
        assert connection.ping()
    assert time.monotonic() - began < 1.5


def test_only_its_owner_may_connect_and_no_port_is_open(valkey: EmbeddedValkey) -> None:
    assert valkey.socket.stat().st_mode & 0o777 == 0o700
    assert setting(valkey, "port") == "0"


def test_it_keeps_messages_and_never_evicts_them(valkey: EmbeddedValkey) -> None:
    assert setting(valkey, "appendonly") == "yes"
    assert setting(valkey, "maxmemory-policy") == "noeviction"


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    for expected in (None, b"hello"):
        with EmbeddedValkey(tmp_path / "broker") as server, client(server) as connection:
            assert connection.get("greeting") == expected
            connection.set("greeting", "hello")


def test_it_starts_on_a_folder_whose_server_was_killed(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "broker")
    server.start()
    assert server.pid is not None
    os.kill(server.pid, 9)
    server.start()
    with client(server) as connection:
        assert connection.ping()
    server.stop()


def test_a_folder_too_long_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with EmbeddedValkey(folder) as server, client(server) as connection:
        assert len(bytes(server.socket)) <= LONGEST_SOCKET_PATH
        borrowed = server.socket.parent
        assert connection.ping()
    assert not borrowed.exists()


def test_its_address_is_the_same_after_it_died_and_was_started_again(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / ("long" * 30)) as server:
        before = server.url
        assert server.pid is not None
        os.kill(server.pid, 9)
        server.start()
        assert server.url == before
        with client(server) as connection:
            assert connection.ping()


def test_it_has_a_session_of_its_own(valkey: EmbeddedValkey) -> None:
    assert valkey.pid is not None
    assert os.getsid(valkey.pid) == valkey.pid


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from workers.valkey import EmbeddedValkey\n"
        "server = EmbeddedValkey(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "broker")], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")
    with pytest.raises(Unavailable, match="did not start"):
        EmbeddedValkey(folder).start()
