"""A process that hangs is told from one that dies."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from workers import processes
from workers.keeper import Keeper

HANGS = """
import faulthandler, signal, time
faulthandler.register(signal.SIGUSR2)
print("here", flush=True)
def waits_for_what_never_comes():
    time.sleep(99)
waits_for_what_never_comes()
"""


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "said"


@pytest.fixture
def keeper(said: Path) -> Iterator[Keeper]:
    def spawn(*, environment: Mapping[str, str]) -> processes.Process:
        with said.open("ab") as file:
            return processes.spawn([sys.executable, "-c", HANGS], stdout=file, stderr=file)

    made = Keeper("one", spawn)
    made.start({})
    assert becomes(said, "here")
    yield made
    made.kill()


def becomes(said: Path, words: str) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if words in said.read_text():
            return True
        time.sleep(0.02)
    return False


def revived(keeper: Keeper, was: int | None) -> list[str]:
    """What is logged of the death, until another process is there."""
    with capture_logs() as logs:
        while keeper.pid in (was, None):
            keeper.revive({})
            time.sleep(0.05)
    return [entry["how"] for entry in logs]


def test_one_that_hangs_logs_where_once_and_is_replaced(keeper: Keeper, said: Path) -> None:
    was = keeper.pid
    for _ in range(3):
        keeper.have_stacks_logged()
    assert becomes(said, "waits_for_what_never_comes")
    for silent_s in (61.0, 62.0):
        keeper.kill_hung(silent_s)
    assert revived(keeper, was) == ["hung for 61 s and was killed"]
    assert said.read_text().count("most recent call first") == 1


def test_its_successor_may_hang_too_or_just_die(keeper: Keeper, said: Path) -> None:
    was = keeper.pid
    keeper.kill_hung(61.0)
    revived(keeper, was)
    was = keeper.pid
    assert was is not None
    subprocess.run(["kill", "-KILL", str(was)], check=True)
    assert revived(keeper, was) == ["was killed by SIGKILL (perhaps out of memory)"]
