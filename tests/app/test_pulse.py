"""Signs of life in a pipe: counted by process, and never in anyone's way."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.pulse import BEAT, Pulse, beat


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    made = Pulse()
    yield made
    made.close()


def test_looks_without_a_sign_are_counted_from_the_last_one_on(pulse: Pulse) -> None:
    pulse.look()
    assert pulse.missed(os.getpid()) is None
    beat(pulse.descriptor)
    beat(pulse.descriptor)
    pulse.look()
    assert pulse.missed(os.getpid()) == 0
    pulse.look()
    pulse.look()
    assert pulse.missed(os.getpid()) == 2
    beat(pulse.descriptor)
    pulse.look()
    assert pulse.missed(os.getpid()) == 0


def test_each_process_has_its_own_count(pulse: Pulse) -> None:
    program = f"from app.pulse import beat; beat({pulse.descriptor}); import os; print(os.getpid())"
    said = subprocess.run(
        [sys.executable, "-c", program], pass_fds=[pulse.descriptor], capture_output=True, check=True
    )
    other = int(said.stdout)
    pulse.look(wait_s=5)
    beat(pulse.descriptor)
    pulse.look()
    assert (pulse.missed(os.getpid()), pulse.missed(other)) == (0, 1)
    pulse.keep({os.getpid(), None})
    assert (pulse.missed(os.getpid()), pulse.missed(other)) == (0, None)


def test_a_process_whose_parent_does_not_look_is_not_held_up(pulse: Pulse) -> None:
    for _ in range(2**20 // BEAT.size):  # more than a pipe holds
        beat(pulse.descriptor)
    pulse.look()
    assert pulse.missed(os.getpid()) == 0
    pulse.look()
    assert pulse.missed(os.getpid()) == 1  # all of them were taken in at once
