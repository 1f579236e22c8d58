"""Workers as they report themselves."""

import time

import pytest

from models.errors import InvalidInput
from workers import fleet
from workers.identifiers import new_id

WORKER = {"host": "here", "pid": 42, "framework": "torch", "device": "cpu", "slots": 2}


def test_a_beat_shows_the_worker_and_a_later_one_updates_it(db):
    fleet.beat(db, id="wrk_1", jobs=[], **WORKER)
    (first,) = fleet.page(db).data
    time.sleep(0.02)
    fleet.beat(db, id="wrk_1", jobs=["job_1"], **WORKER)
    (second,) = fleet.page(db).data
    assert second.jobs == ("job_1",)
    assert second.started_at == first.started_at
    assert second.last_seen_at > first.last_seen_at


def test_a_worker_that_leaves_is_gone(db):
    fleet.beat(db, id="wrk_1", jobs=[], **WORKER)
    fleet.leave(db, "wrk_1")
    assert fleet.page(db).data == ()


def test_workers_not_seen_lately_can_be_left_out_and_forgotten(db):
    fleet.beat(db, id="wrk_1", jobs=[], **WORKER)
    time.sleep(0.1)
    fleet.beat(db, id="wrk_2", jobs=[], **WORKER)
    assert [worker.id for worker in fleet.page(db, seen_within_s=0.08).data] == ["wrk_2"]
    fleet.prune(db, older_than_s=0.08)
    assert [worker.id for worker in fleet.page(db).data] == ["wrk_2"]


def test_workers_come_in_pages(db):
    one, two, three = ids = [new_id("wrk") for _ in range(3)]
    for id in ids:
        fleet.beat(db, id=id, jobs=[], **WORKER)
    first = fleet.page(db, limit=2)
    assert ([worker.id for worker in first.data], first.has_more) == ([three, two], True)
    fleet.leave(db, two)  # between two pages
    assert [worker.id for worker in fleet.page(db, after=two).data] == [one]
    assert [worker.id for worker in fleet.page(db, after=two, order="asc").data] == [three]


@pytest.mark.parametrize("strange", ["wrk_9", "job_01jd8zq4m3v6x9n2k5t7w0y1ab", "\0"])
def test_a_page_after_what_is_no_workers_id_is_refused(db, strange):
    with pytest.raises(InvalidInput):
        fleet.page(db, after=strange)
