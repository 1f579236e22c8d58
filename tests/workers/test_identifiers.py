"""Identifiers: unique, sortable, stable where they must be."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from workers.identifiers import new_id, stable_id

SHAPE = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}")


def test_identifiers_have_a_prefix_and_26_characters():
    assert SHAPE.fullmatch(new_id("job"))
    assert SHAPE.fullmatch(stable_id("job", "digits"))


def test_identifiers_sort_by_creation_even_within_a_millisecond():
    made = [new_id("job") for _ in range(20_000)]
    assert made == sorted(set(made))


def test_threads_never_get_the_same_identifier():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id("job"), range(5000)))
    assert len(set(made)) == 5000


def test_a_later_process_makes_later_identifiers():
    before = new_id("job")
    code = "from workers.identifiers import new_id; print(new_id('job'))"
    later = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert before < later


def test_a_stable_identifier_is_the_same_for_ever_and_sorts_first():
    assert stable_id("ds", "digits") == "ds_00000000007zykegj3agemw79x"
    assert stable_id("ds", "digits") != stable_id("ds", "mnist")
    assert stable_id("ds", "mnist") < new_id("ds")
