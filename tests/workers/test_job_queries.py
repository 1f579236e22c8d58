"""Pages of jobs, events, curves, logs and checkpoints."""

import pytest

from models.errors import InvalidInput, NotFound
from workers import job_queries, jobs
from workers.identifiers import new_id
from workers.reports import Checkpoint, LogLines, Metrics


def ids(page):
    return [job.id for job in page.data]


def test_pages_follow_each_other_newest_first_without_gap_or_repeat(db, queued):
    made = [queued().id for _ in range(5)]
    first = job_queries.page(db, limit=2)
    second = job_queries.page(db, limit=2, after=first.data[-1].id)
    third = job_queries.page(db, limit=2, after=second.data[-1].id)
    assert ids(first) + ids(second) + ids(third) == made[::-1]
    assert (first.has_more, second.has_more, third.has_more) == (True, True, False)


def test_a_page_can_be_read_oldest_first(db, queued):
    made = [queued().id for _ in range(3)]
    assert ids(job_queries.page(db, order="asc")) == made
    assert ids(job_queries.page(db, order="asc", after=made[0])) == made[1:]


def test_a_job_created_meanwhile_does_not_shift_the_next_page(db, queued):
    made = [queued().id for _ in range(3)]
    first = job_queries.page(db, limit=1)
    queued()
    assert ids(job_queries.page(db, after=first.data[-1].id)) == made[1::-1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"framework": "jax"}, ["b"]),
        ({"status": "cancelled"}, ["a"]),
        ({"status": "succeeded"}, []),
        ({"dataset": "digits"}, ["b", "a"]),
        ({"dataset": "mnist"}, []),
        ({"name": "a", "framework": "torch"}, ["a"]),
        ({"name": "a\0"}, []),
    ],
)
def test_filters_narrow_the_list(db, queued, wanted, found):
    jobs.cancel(db, queued(name="a").id)
    queued(name="b", framework="jax")
    assert [job.name for job in job_queries.page(db, **wanted).data] == found


def test_jobs_are_found_by_their_datasets_id(db, queued):
    job = queued()
    assert ids(job_queries.page(db, dataset=job.dataset_id)) == [job.id]


@pytest.mark.parametrize(
    "wrong",
    [
        {"after": "job_none"},
        {"after": "\0"},
        {"after": new_id("ds")},
        {"after": new_id("pred")},
        {"after": new_id("job"), "kind": "prediction"},
        {"limit": 0},
        {"limit": 201},
    ],
)
def test_a_wrong_cursor_or_limit_is_refused_and_named(db, queued, wrong):
    queued()
    with pytest.raises(InvalidInput) as caught:
        job_queries.page(db, **wrong)
    assert caught.value.pointer == f"/{next(iter(wrong))}"


@pytest.mark.parametrize(
    "read",
    [job_queries.get, job_queries.events, job_queries.metrics, job_queries.logs, job_queries.checkpoints],
)
@pytest.mark.parametrize("job_id", ["job_none", "", "\0", "\ud800", "x" * 10_000])
def test_an_unknown_job_is_not_found(db, read, job_id):
    with pytest.raises(NotFound):
        read(db, job_id)


def test_events_are_replayed_after_a_number(db, claimed):
    claim = claimed()
    for number in range(5):
        jobs.record(db, claim.job.id, claim.fence, reports=[LogLines(f"{number}\n")])
    events = job_queries.events(db, claim.job.id)
    assert job_queries.events(db, claim.job.id, after=events[3].seq) == events[4:]
    assert job_queries.events(db, claim.job.id, limit=2) == events[:2]
    assert job_queries.events(db, claim.job.id, after=10**30) == []


def test_the_log_is_joined_in_order(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("one\ntwo\n"), LogLines("three\n")])
    jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("four\n")])
    assert job_queries.logs(db, claim.job.id) == "one\ntwo\nthree\nfour\n"


def test_curves_are_columns_of_one_length_with_none_where_nothing_was_measured(db, claimed):
    claim = claimed()
    points = [
        Metrics(10, 1, "train", {"loss": 3.0}),
        Metrics(20, 1, "train", {"loss": 2.0}),
        Metrics(20, 1, "epoch_train", {"loss": 2.25}),
        Metrics(20, 1, "validation", {"loss": 2.5, "accuracy": 0.5}),
    ]
    jobs.record(db, claim.job.id, claim.fence, reports=points)
    assert job_queries.metrics(db, claim.job.id) == {
        "step": [10, 20],
        "epoch": [1, 1],
        "train_loss": [3.0, 2.0],
        "epoch_train_loss": [None, 2.25],
        "validation_loss": [None, 2.5],
        "validation_accuracy": [None, 0.5],
    }
    found = job_queries.get(db, claim.job.id).metrics
    assert found == {"train_loss": 2.0, "validation_loss": 2.5, "validation_accuracy": 0.5}


def test_a_job_without_points_has_empty_curves(db, queued):
    assert job_queries.metrics(db, queued().id) == {"step": [], "epoch": []}


def test_points_computed_again_after_a_resume_replace_the_old_ones(db, claimed):
    claim = claimed()
    for loss in (3.0, 2.9):
        jobs.record(db, claim.job.id, claim.fence, reports=[Metrics(10, 1, "train", {"loss": loss})])
    assert job_queries.metrics(db, claim.job.id)["train_loss"] == [2.9]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 20, 99])
def test_thinned_curves_keep_the_ends_and_stay_within_the_limit(db, claimed, most):
    claim = claimed()
    train = [Metrics(step, 0, "train", {"loss": 1.0}) for step in range(1, 101)]
    validation = [Metrics(step, 0, "validation", {"loss": 1.0}) for step in (25, 50, 75, 100)]
    jobs.record(db, claim.job.id, claim.fence, reports=[*train, *validation])
    curves = job_queries.metrics(db, claim.job.id, points=most)
    assert len(curves["step"]) == most
    assert curves["step"] == sorted(set(curves["step"]))
    assert curves["step"][-1] == 100
    if most > 1:
        assert curves["step"][0] == 1
    if most >= 8:
        assert [step for step, loss in zip(curves["step"], curves["validation_loss"], strict=True) if loss] == [
            25, 50, 75, 100,
        ]  # fmt: skip


def test_no_points_at_all_cannot_be_asked_for(db, queued):
    with pytest.raises(InvalidInput):
        job_queries.metrics(db, queued().id, points=0)


class TestCheckpoints:
    def record(self, db, claim, *steps):
        reports = [Checkpoint(step, 0, f"{claim.job.id}/{claim.fence}/{step}", 10) for step in steps]
        assert jobs.record(db, claim.job.id, claim.fence, reports=reports)

    def test_they_are_listed_newest_first_and_told_as_events(self, db, claimed):
        claim = claimed()
        self.record(db, claim, 5, 10)
        assert [one.step for one in job_queries.checkpoints(db, claim.job.id)] == [10, 5]
        assert [
            one.data["step"] for one in job_queries.events(db, claim.job.id) if one.type == "checkpoint"
        ] == [5, 10]

    def test_one_that_is_told_twice_counts_once(self, db, claimed):
        claim = claimed()
        self.record(db, claim, 5)
        self.record(db, claim, 5)
        assert len(job_queries.checkpoints(db, claim.job.id)) == 1

    def test_a_later_attempts_checkpoint_is_the_newest_even_at_a_lower_step(self, db, claimed):
        claim = claimed()
        self.record(db, claim, 50)
        jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        again = jobs.claim(db, claim.job.id, worker="wrk_2", host="there", lease_s=60)
        self.record(db, again, 40)
        assert job_queries.latest_checkpoint(db, claim.job.id).step == 40

    def test_a_retry_of_a_retry_finds_the_first_jobs_checkpoint(self, db, claimed):
        claim = claimed()
        self.record(db, claim, 5)
        jobs.cancel(db, claim.job.id)
        jobs.cancelled(db, claim.job.id, claim.fence)
        second = jobs.retry(db, claim.job.id)
        jobs.cancel(db, second.id)
        third = jobs.retry(db, second.id)
        assert job_queries.latest_checkpoint(db, third.id).folder == f"{claim.job.id}/{claim.fence}/5"

    def test_a_job_without_any_has_none(self, db, queued):
        assert job_queries.latest_checkpoint(db, queued().id) is None

    def test_forgetting_keeps_the_newest(self, db, claimed):
        claim = claimed()
        self.record(db, claim, 1, 2, 3, 4)
        gone = jobs.forget_checkpoints(db, claim.job.id, keep=2)
        assert sorted(gone) == [f"{claim.job.id}/{claim.fence}/{step}" for step in (1, 2)]
        assert [one.step for one in job_queries.checkpoints(db, claim.job.id)] == [4, 3]


def test_jobs_are_counted_by_framework_and_status(db, queued, claimed):
    queued(), queued(), claimed(framework="jax")
    assert job_queries.counts(db) == {("torch", "queued"): 2, ("jax", "running"): 1}
