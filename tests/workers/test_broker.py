"""Publishing: quick whatever the broker does, and never raising."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from workers import broker
from workers.settings import Settings
from workers.valkey import EmbeddedValkey

LIMIT_S = 0.5


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "a folder with spaces") as server:
        yield server


@pytest.fixture
def settings(valkey: EmbeddedValkey, tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, broker_url=valkey.url)
    while not broker.publish(made, "torch", "first"):  # on a busy machine it takes longer than a message may
        pass
    with Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete("train.torch")
    return made


def timed_publish(settings: Settings, job_id: str = "job_1") -> tuple[bool, float]:
    began = time.monotonic()
    sent = broker.publish(settings, "torch", job_id)
    return sent, time.monotonic() - began


def test_a_published_job_waits_in_the_queue_of_its_framework(settings: Settings) -> None:
    assert broker.publish(settings, "torch", "job_1")
    assert broker.publish(settings, "jax", "job_2")
    assert broker.publish(settings, "jax", "job_3")
    assert broker.backlog(settings, "torch") == 1
    assert broker.backlog(settings, "jax") == 2


def test_a_message_carries_the_job_id_and_nothing_else_of_the_job(
    settings: Settings, valkey: EmbeddedValkey
) -> None:
    broker.publish(settings, "torch", "job_1")
    with Redis(unix_socket_path=str(valkey.socket)) as client:
        (message,) = client.lrange("train.torch", 0, -1)
    assert b"job_1" in message
    assert len(message) < 1500


def test_the_first_message_waits_for_what_sends_it(valkey: EmbeddedValkey) -> None:
    program = "import sys; from workers import broker; from workers.settings import Settings;"
    program += " sent = broker.publish(Settings(), 'jax', 'job_1'); print('celery.app.amqp' in sys.modules);"
    program += " sent or __import__('time').sleep(5)"  # on a busy machine it arrives later, as ever
    environment = {**os.environ, "TANDEM_BROKER_URL": valkey.url}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "True\n"
    with Redis(unix_socket_path=str(valkey.socket)) as client:
        assert client.llen("train.jax") == 1


def test_publishing_to_no_broker_says_so_quickly(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")
    broker.prepare(settings)
    for _ in range(3):
        sent, seconds = timed_publish(settings)
        assert not sent
        assert seconds < LIMIT_S


def test_publishing_to_a_frozen_broker_says_so_quickly_and_works_again_once_it_thaws(
    settings: Settings, valkey: EmbeddedValkey
) -> None:
    assert broker.publish(settings, "torch", "job_0")
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        answers = [timed_publish(settings, f"job_{number}") for number in range(5)]
        assert not broker.ping(settings)
        assert broker.backlog(settings, "torch") is None
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert [sent for sent, _ in answers] == [False] * 5
    assert max(seconds for _, seconds in answers) < LIMIT_S
    deadline = time.monotonic() + 10
    while not broker.publish(settings, "torch", "job_9"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_publishing_works_again_after_the_broker_was_restarted(
    settings: Settings, valkey: EmbeddedValkey
) -> None:
    assert broker.publish(settings, "torch", "job_1")
    valkey.stop()
    assert timed_publish(settings)[0] is False
    valkey.start()
    deadline = time.monotonic() + 5
    while not broker.publish(settings, "torch", "job_2"):
        assert time.monotonic() < deadline
    assert (broker.backlog(settings, "torch") or 0) >= 2  # the first message outlived the server


def test_ping_tells_whether_the_broker_answers(settings: Settings, tmp_path: Path) -> None:
    assert broker.ping(settings)
    assert not broker.ping(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"))


def test_importing_the_broker_costs_no_celery() -> None:
    program = "import sys, workers.broker; sys.exit(any(name in sys.modules for name in ('celery', 'redis')))"
    subprocess.run([sys.executable, "-c", program], check=True)
