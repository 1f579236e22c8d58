"""The reconciler's transitions, on both databases."""

import time
from concurrent.futures import ThreadPoolExecutor

from workers import dispatch, job_queries, jobs


def overdue(claimed, **fields):
    claim = claimed(lease_s=0.001, **fields)
    time.sleep(0.01)
    return claim


def test_an_attempt_whose_lease_ran_out_is_given_up_and_the_job_queued_at_once(db, claimed):
    claim = overdue(claimed)
    assert dispatch.expire_leases(db) == [dispatch.Expired(claim.job.id, "torch", "queued")]
    job = job_queries.get(db, claim.job.id)
    assert (job.status, job.fence, job.worker) == ("queued", claim.fence + 1, None)
    (attempt,) = job_queries.attempts(db, job.id)
    assert (attempt.outcome, attempt.ended_at is not None) == ("lost", True)
    assert jobs.claim(db, job.id, worker="wrk_2", host="there", lease_s=60).attempt == 2


def test_an_attempt_within_its_lease_is_left_alone(db, claimed):
    claimed(lease_s=60)
    assert dispatch.expire_leases(db) == []


def test_an_attempt_that_was_heard_of_since_the_sweep_looked_is_left_alone(db, claimed):
    claim = overdue(claimed)
    jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60)
    assert dispatch.expire_lease(db, claim.job.id) is None
    assert jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive


def test_the_last_attempt_that_is_lost_fails_the_job_and_says_why(db, claimed):
    claim = overdue(claimed, max_attempts=1)
    assert dispatch.expire_leases(db)[0].status == "failed"
    job = job_queries.get(db, claim.job.id)
    assert job.error_code == "worker_lost"
    assert "stopped answering (attempt 1 of 1)" in job.error_message
    assert job_queries.events(db, job.id)[-1].type == "done"


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(db, claimed):
    claim = overdue(claimed)
    jobs.cancel(db, claim.job.id)
    assert dispatch.expire_leases(db)[0].status == "cancelled"
    assert job_queries.get(db, claim.job.id).error_code is None


def test_reconcilers_that_sweep_together_expire_each_attempt_once(db, claimed):
    for _ in range(5):
        overdue(claimed)
    with ThreadPoolExecutor(4) as threads:
        sweeps = list(threads.map(lambda _: dispatch.expire_leases(db), range(4)))
    assert sum(map(len, sweeps)) == 5
    assert all(job.fence == 2 for job in job_queries.page(db).data)


def test_a_job_whose_message_was_never_sent_is_stale_and_a_sent_one_is_not(db, queued):
    job = queued(framework="jax")
    assert dispatch.stale_queued(db, redispatch_s=30) == [(job.id, "jax")]
    dispatch.mark_dispatched(db, job.id)
    assert dispatch.stale_queued(db, redispatch_s=30) == []


def test_a_message_goes_stale(db, queued):
    job = queued()
    dispatch.mark_dispatched(db, job.id)
    time.sleep(0.06)
    assert dispatch.stale_queued(db, redispatch_s=0.05) == [(job.id, "torch")]


def test_a_released_job_needs_a_new_message_at_once(db, queued):
    job = queued()
    dispatch.mark_dispatched(db, job.id)
    claim = jobs.claim(db, job.id, worker="wrk_1", host="here", lease_s=60)
    jobs.release(db, job.id, claim.fence, reason="shutdown")
    assert dispatch.stale_queued(db, redispatch_s=30) == [(job.id, "torch")]


def test_a_job_that_is_to_wait_is_stale_only_after_that(db, claimed):
    claim = claimed()
    failure = {"code": "crashed", "message": "It crashed.", "retryable": True}
    jobs.attempt_failed(db, claim.job.id, claim.fence, **failure, backoff_s=0.2)
    assert dispatch.stale_queued(db, redispatch_s=0) == []
    time.sleep(0.25)
    assert dispatch.stale_queued(db, redispatch_s=0) == [(claim.job.id, "torch")]


def test_running_and_finished_jobs_need_no_message(db, claimed, queued):
    claimed()
    jobs.cancel(db, queued().id)
    assert dispatch.stale_queued(db, redispatch_s=0) == []


def test_of_a_long_queue_the_oldest_of_each_framework_are_sent_again(db, queued):
    torch = [queued().id for _ in range(4)]
    jax = [queued(framework="jax").id for _ in range(2)]
    stale = dispatch.stale_queued(db, redispatch_s=30, limit=3)
    assert stale == [*((job_id, "torch") for job_id in torch[:3]), *((job_id, "jax") for job_id in jax)]


def test_jobs_without_any_message_come_before_those_with_an_old_one(db, queued):
    old, never = queued(), queued()
    dispatch.mark_dispatched(db, old.id)
    time.sleep(0.06)
    stale = dispatch.stale_queued(db, redispatch_s=0.05)
    assert [job_id for job_id, _ in stale] == [never.id, old.id]


def test_what_may_be_claimed_is_counted_by_framework(db, queued, claimed):
    claimed()
    jobs.cancel(db, queued().id)
    assert dispatch.claimable(db) == {}
    queued()
    queued(framework="jax")
    queued(framework="jax")
    assert dispatch.claimable(db) == {"torch": 1, "jax": 2}
