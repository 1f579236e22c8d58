"""Idempotency keys: the same request again, another one, one in flight, one that was given up."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import Conflict, InvalidInput
from workers import idempotency
from workers.idempotency import IdempotencyClaim, StoredAnswer, abandon, begin, complete, fingerprint

ROUTE = "POST /jobs"


def test_an_answered_request_gets_the_same_answer_again(db):
    claim = begin(db, "key", ROUTE, "print")
    complete(db, claim, 201, '{"id": "job_1"}', "/jobs/job_1")
    for _ in range(2):
        assert begin(db, "key", ROUTE, "print") == StoredAnswer(201, '{"id": "job_1"}', "/jobs/job_1")


@pytest.mark.parametrize("answered", [False, True])
def test_another_request_under_the_same_key_is_refused(db, answered):
    claim = begin(db, "key", ROUTE, "print")
    if answered:
        complete(db, claim, 201, "{}")
    with pytest.raises(InvalidInput) as caught:
        begin(db, "key", ROUTE, "another")
    assert caught.value.problems[0].code == "idempotency_key_reused"


def test_a_request_in_flight_is_to_be_asked_again(db):
    begin(db, "key", ROUTE, "print")
    with pytest.raises(Conflict) as caught:
        begin(db, "key", ROUTE, "print")
    assert 1 <= caught.value.retry_after_s <= 60


def test_keys_of_different_routes_are_different(db):
    begin(db, "key", ROUTE, "print")
    assert isinstance(begin(db, "key", "POST /datasets", "another"), IdempotencyClaim)


def test_an_abandoned_key_may_be_used_at_once_even_for_another_request(db):
    abandon(db, begin(db, "key", ROUTE, "print"))
    assert isinstance(begin(db, "key", ROUTE, "another"), IdempotencyClaim)


def test_a_request_that_was_given_up_is_taken_over_and_its_late_answer_is_not_kept(db):
    slow = begin(db, "key", ROUTE, "print", in_flight_s=0.001)
    time.sleep(0.01)
    claim = begin(db, "key", ROUTE, "print")
    complete(db, slow, 500, "late")
    abandon(db, slow)
    complete(db, claim, 201, "right")
    assert begin(db, "key", ROUTE, "print").body == "right"


def test_of_many_that_begin_together_one_goes_on(db):
    def try_to_begin(_):
        try:
            return begin(db, "key", ROUTE, "print")
        except Conflict as problem:
            return problem

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(try_to_begin, range(8)))
    assert sum(isinstance(result, IdempotencyClaim) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_no_or_too_many_characters_is_refused(db, key):
    with pytest.raises(InvalidInput):
        begin(db, key, ROUTE, "print")


def test_odd_characters_in_a_key_are_no_error(db):
    assert isinstance(begin(db, "\0\ud800é", ROUTE, "print"), IdempotencyClaim)


def test_old_keys_are_forgotten(db):
    complete(db, begin(db, "old", ROUTE, "print"), 201, "{}")
    time.sleep(0.05)
    begin(db, "new", ROUTE, "print")
    assert idempotency.prune(db, older_than_s=0.04) == 1
    assert isinstance(begin(db, "old", ROUTE, "another"), IdempotencyClaim)


def test_a_fingerprint_tells_where_its_parts_end():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a") == fingerprint(b"a")
