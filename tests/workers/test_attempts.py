"""What supervisors do to jobs, on both databases: claim, keep, end an attempt; what is refused too."""

import time

import pytest

from models.errors import NotFound
from workers import dispatch, job_queries, jobs, registry

OTHER = {"worker": "wrk_2", "host": "there", "lease_s": 60}
FAILURE = {"code": "crashed", "message": "The trainer ended with code 1.", "backoff_s": 0}


class TestClaim:
    def test_a_claim_starts_the_job_under_a_new_fence(self, db, queued, statuses):
        job = queued()
        claim = jobs.claim(db, job.id, worker="wrk_1", host="here", lease_s=60)
        assert (claim.attempt, claim.fence) == (1, 1)
        assert (claim.job.status, claim.job.worker) == ("running", "wrk_1")
        assert claim.job.started_at >= job.created_at
        waited_s = (claim.job.started_at - claim.job.created_at).total_seconds()
        assert claim.job.timing["queued_s"] == pytest.approx(waited_s, abs=1e-4)
        assert statuses(job.id) == ["queued", "running"]

    def test_the_attempt_is_written_down(self, db, claimed):
        claim = claimed()
        (attempt,) = job_queries.attempts(db, claim.job.id)
        assert (attempt.fence, attempt.attempt, attempt.worker, attempt.host) == (1, 1, "wrk_1", "here")
        assert (attempt.ended_at, attempt.outcome) == (None, None)

    def test_a_running_job_cannot_be_claimed(self, db, claimed):
        assert jobs.claim(db, claimed().job.id, **OTHER) is None

    def test_of_many_threads_that_claim_one_job_one_gets_it(self, db, queued, at_once):
        job = queued()
        claims = at_once(*[lambda: jobs.claim(db, job.id, **OTHER)] * 8)
        assert sum(claim is not None for claim in claims) == 1
        assert job_queries.get(db, job.id).attempt == 1

    def test_a_cancelled_job_cannot_be_claimed(self, db, queued):
        job = queued()
        jobs.cancel(db, job.id)
        assert jobs.claim(db, job.id, **OTHER) is None

    def test_an_unknown_job_cannot_be_claimed(self, db):
        assert jobs.claim(db, "job_none", **OTHER) is None

    def test_a_job_that_is_to_wait_cannot_be_claimed_before(self, db, claimed):
        claim = claimed()
        jobs.attempt_failed(db, claim.job.id, claim.fence, **{**FAILURE, "backoff_s": 0.3}, retryable=True)
        assert jobs.claim(db, claim.job.id, **OTHER) is None
        time.sleep(0.35)
        assert jobs.claim(db, claim.job.id, **OTHER).attempt == 2


class TestHeartbeat:
    def test_a_heartbeat_keeps_the_job(self, db, claimed):
        claim = claimed(lease_s=0.2)
        for _ in range(4):
            time.sleep(0.1)
            beat = jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=0.5)
            assert (beat.alive, beat.cancel_requested) == (True, False)
            assert dispatch.expire_leases(db) == []

    def test_a_heartbeat_tells_of_a_wish_to_cancel(self, db, claimed):
        claim = claimed()
        jobs.cancel(db, claim.job.id)
        assert jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60) == jobs.Heartbeat(True, True)

    def test_a_stale_fence_gets_no_heartbeat(self, db, claimed, let_lease_expire):
        claim = claimed()
        let_lease_expire(claim)
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive
        assert jobs.claim(db, claim.job.id, **OTHER).fence == claim.fence + 2
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive

    def test_a_finished_job_gets_no_heartbeat(self, db, claimed, model):
        claim = claimed()
        jobs.finish(db, claim.job.id, claim.fence, model())
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive


class TestFinish:
    def test_success_registers_the_next_version_with_the_job(
        self, db, claimed, model, statuses, is_done, outcomes
    ):
        claim = claimed()
        version = jobs.finish(
            db, claim.job.id, claim.fence, model(timing={"train_s": 2.0}, stop_reason="max_seconds")
        )
        job = job_queries.get(db, claim.job.id)
        assert (job.status, job.model_name, job.model_version) == ("succeeded", "digits-mlp", 1)
        assert (job.stop_reason, job.timing["train_s"]) == ("max_seconds", 2.0)
        assert job.metrics == {"test_accuracy": 0.9}
        assert job.finished_at >= job.started_at
        assert version == registry.resolve(db, job.id) == registry.resolve(db, "digits-mlp")
        assert (version.job_id, version.architecture, version.classes) == (job.id, "mlp", ("a", "b"))
        assert outcomes(job.id) == ["succeeded"]
        assert statuses(job.id) == ["queued", "running", "succeeded"]
        assert is_done(job.id)

    def test_the_result_of_a_lost_worker_is_refused_after_expiry(self, db, claimed, model, let_lease_expire):
        claim = claimed()
        let_lease_expire(claim)
        assert jobs.finish(db, claim.job.id, claim.fence, model()) is None
        assert job_queries.get(db, claim.job.id).status == "queued"
        with pytest.raises(NotFound):
            registry.resolve(db, "digits-mlp")

    def test_the_result_of_a_lost_worker_is_refused_while_another_runs_and_after(
        self, db, claimed, model, let_lease_expire
    ):
        lost = claimed()
        let_lease_expire(lost)
        claim = jobs.claim(db, lost.job.id, **OTHER)
        assert jobs.finish(db, claim.job.id, lost.fence, model(b"zombie")) is None
        assert jobs.finish(db, claim.job.id, claim.fence, model(b"right")).sha256 == model(b"right").sha256
        assert jobs.finish(db, claim.job.id, lost.fence, model(b"zombie")) is None
        assert len(registry.get(db, "digits-mlp").versions) == 1

    def test_a_job_finishes_once(self, db, claimed, model, is_done, at_once):
        claim = claimed()
        results = at_once(*[lambda: jobs.finish(db, claim.job.id, claim.fence, model())] * 4)
        assert sum(result is not None for result in results) == 1
        assert len(registry.get(db, "digits-mlp").versions) == 1
        assert is_done(claim.job.id)

    def test_jobs_that_finish_together_get_different_versions(self, db, claimed, model, at_once):
        claims = [claimed() for _ in range(6)]
        made = at_once(*[lambda c=c: jobs.finish(db, c.job.id, c.fence, model()) for c in claims])
        assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]


class TestRelease:
    def test_a_released_job_is_queued_at_once_and_the_attempt_is_not_charged(self, db, claimed, outcomes):
        claim = claimed(max_attempts=1)
        assert jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        job = job_queries.get(db, claim.job.id)
        assert (job.status, job.attempt, job.worker, job.finished_at) == ("queued", 0, None, None)
        again = jobs.claim(db, claim.job.id, **OTHER)
        assert (again.attempt, again.fence) == (1, 3)
        assert outcomes(job.id) == ["released", None]

    def test_a_released_job_that_was_to_be_cancelled_is_cancelled(self, db, claimed, is_done):
        claim = claimed()
        jobs.cancel(db, claim.job.id)
        assert jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        assert job_queries.get(db, claim.job.id).status == "cancelled"
        assert is_done(claim.job.id)

    def test_a_stale_fence_releases_nothing(self, db, claimed, let_lease_expire):
        claim = claimed()
        let_lease_expire(claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert not jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        assert job_queries.get(db, claim.job.id).status == "running"


class TestAttemptFailed:
    def test_a_failed_attempt_is_made_again_until_they_are_used_up(self, db, queued, is_done, outcomes):
        job = queued(max_attempts=3)
        becomes = []
        while (claim := jobs.claim(db, job.id, **OTHER)) is not None:
            becomes.append(jobs.attempt_failed(db, job.id, claim.fence, **FAILURE, retryable=True))
        assert becomes == ["queued", "queued", "failed"]
        job = job_queries.get(db, job.id)
        assert (job.status, job.attempt) == ("failed", 3)
        assert (job.error_code, job.error_message) == ("crashed", FAILURE["message"])
        assert job.finished_at is not None
        assert outcomes(job.id) == ["failed"] * 3
        assert is_done(job.id)

    def test_a_failure_that_would_come_again_ends_the_job(self, db, claimed):
        claim = claimed()
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=False) == "failed"
        assert jobs.claim(db, claim.job.id, **OTHER) is None

    def test_a_failed_attempt_of_a_job_to_be_cancelled_cancels_it(self, db, claimed):
        claim = claimed()
        jobs.cancel(db, claim.job.id)
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=True) == "cancelled"

    def test_a_stale_fence_fails_nothing(self, db, claimed, let_lease_expire):
        claim = claimed()
        let_lease_expire(claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=False) is None
        assert job_queries.get(db, claim.job.id).status == "running"

    def test_an_attempt_after_a_failure_shows_no_old_error(self, db, claimed):
        claim = claimed()
        jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=True)
        assert jobs.claim(db, claim.job.id, **OTHER).job.error_code is None
