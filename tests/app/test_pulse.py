"""Signs of life in a pipe: counted by process, and never in anyone's way."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.pulse import BEAT, Pulse, beat

OURS, OTHERS = os.getpid(), 1


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    made = Pulse()
    made.watch([OURS, OTHERS])
    yield made
    made.close()


def test_looks_without_a_sign_are_counted_from_the_last_one_on(pulse: Pulse) -> None:
    pulse.look()
    assert (pulse.alive(OURS), pulse.missed(OURS)) == (False, 1)
    beat(pulse.descriptor)
    beat(pulse.descriptor)
    pulse.look()
    assert (pulse.alive(OURS), pulse.missed(OURS)) == (True, 0)
    pulse.look()
    pulse.look()
    assert (pulse.alive(OURS), pulse.missed(OURS)) == (True, 2)
    beat(pulse.descriptor)
    pulse.look()
    assert pulse.missed(OURS) == 0
    assert (pulse.alive(OTHERS), pulse.missed(OTHERS)) == (False, 5)


def test_a_sign_that_is_taken_in_between_two_looks_is_nobody_elses_look(pulse: Pulse) -> None:
    for _ in range(50):
        beat(pulse.descriptor)
        pulse.take(1.0)
    assert (pulse.alive(OURS), pulse.alive(OTHERS)) == (True, False)
    assert (pulse.missed(OURS), pulse.missed(OTHERS)) == (0, 0)


def test_signs_are_of_the_process_that_gave_them(pulse: Pulse) -> None:
    program = f"from app.pulse import beat; beat({pulse.descriptor}); import os; print(os.getpid())"
    command = [sys.executable, "-c", program]
    pulse.look()
    with subprocess.Popen(command, pass_fds=[pulse.descriptor], stdout=subprocess.PIPE) as child:
        pulse.watch([OURS, child.pid])
        assert child.communicate()[0] == b"%d\n" % child.pid
    pulse.look()
    assert (pulse.alive(OURS), pulse.alive(child.pid)) == (False, True)
    assert (pulse.missed(OURS), pulse.missed(child.pid)) == (2, 0)


def test_signs_of_one_that_is_not_watched_any_more_count_for_nothing(pulse: Pulse) -> None:
    beat(pulse.descriptor)
    pulse.watch([OTHERS])
    pulse.look()
    pulse.watch([OURS, OTHERS])
    pulse.look()
    assert (pulse.alive(OURS), pulse.missed(OURS)) == (False, 1)


def test_a_process_whose_parent_does_not_look_is_not_held_up(pulse: Pulse) -> None:
    for _ in range(2**20 // BEAT.size):  # more than a pipe holds
        beat(pulse.descriptor)
    pulse.look()
    pulse.look()
    assert pulse.missed(OURS) == 1  # the first look has taken all of them in
