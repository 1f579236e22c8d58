"""What clients do to jobs, on both databases: create, cancel, retry; what is refused too."""

import time

import pytest

from models.errors import Conflict, NotFound
from workers import datasets, idempotency, job_queries, jobs
from workers.reports import Checkpoint

OTHER = {"worker": "wrk_2", "host": "there", "lease_s": 60}
FAILURE = {"code": "crashed", "message": "The trainer ended with code 1.", "backoff_s": 0}


class TestCreate:
    def test_a_new_job_is_queued_and_says_all_that_was_asked(self, db, job_spec, statuses):
        spec = job_spec(name="mine", metadata={"team": "vision"})
        digits = datasets.get(db, "digits")
        job = jobs.create(db, spec, digits, max_attempts=3)
        assert job == job_queries.get(db, job.id)
        assert (job.status, job.attempt, job.max_attempts, job.framework) == ("queued", 0, 3, "torch")
        assert (job.name, job.metadata) == ("mine", {"team": "vision"})
        assert (job.dataset_id, job.dataset_name) == (digits.id, "digits")
        assert job.spec == spec.model_dump(mode="json")
        assert job.spec["init"] == {"from": "scratch"}
        assert job.started_at is None
        assert statuses(job.id) == ["queued"]

    def test_a_model_without_a_name_is_called_after_dataset_and_architecture(self, queued):
        assert queued().name == "digits-mlp"

    def test_a_name_made_of_a_long_datasets_name_is_still_a_name(self):
        name = jobs.default_name("d" * 64, "resnet18")
        assert len(name) == 64
        assert name.endswith("d-resnet18")

    def test_the_clock_is_the_databases(self, queued):
        assert abs(queued().created_at.timestamp() - time.time()) < 5


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, db, queued, is_done):
        job = jobs.cancel(db, queued().id)
        assert job.status == "cancelled"
        assert job.finished_at is not None
        assert is_done(job.id)

    def test_a_running_job_is_asked_to_end_and_ended_by_its_supervisor(self, db, claimed, is_done, outcomes):
        claim = claimed()
        job = jobs.cancel(db, claim.job.id)
        assert (job.status, job.cancel_requested, job.finished_at) == ("running", True, None)
        assert jobs.cancelled(db, claim.job.id, claim.fence)
        assert job_queries.get(db, job.id).status == "cancelled"
        assert outcomes(job.id) == ["cancelled"]
        assert is_done(job.id)

    @pytest.mark.parametrize("state", ["queued", "running"])
    def test_cancelling_again_answers_the_same_and_adds_no_event(self, db, queued, state):
        job = queued()
        if state == "running":
            jobs.claim(db, job.id, **OTHER)
        first = jobs.cancel(db, job.id)
        events = job_queries.events(db, job.id)
        assert jobs.cancel(db, job.id) == first
        assert job_queries.events(db, job.id) == events

    def test_a_finished_job_cannot_be_cancelled(self, db, claimed, model):
        succeeded, failed = claimed(), claimed()
        jobs.finish(db, succeeded.job.id, succeeded.fence, model())
        jobs.attempt_failed(db, failed.job.id, failed.fence, **FAILURE, retryable=False)
        with pytest.raises(Conflict, match="succeeded already"):
            jobs.cancel(db, succeeded.job.id)
        with pytest.raises(Conflict, match="failed already"):
            jobs.cancel(db, failed.job.id)

    def test_an_unknown_job_cannot_be_cancelled(self, db):
        with pytest.raises(NotFound):
            jobs.cancel(db, "job_none\0")

    def test_a_stale_fence_cancels_nothing(self, db, claimed, let_lease_expire):
        claim = claimed()
        let_lease_expire(claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert not jobs.cancelled(db, claim.job.id, claim.fence)

    def test_cancel_and_claim_at_the_same_moment_never_lose_the_wish(self, db, queued, at_once):
        for _ in range(10):
            job = queued()
            claim, _ = at_once(
                lambda job=job: jobs.claim(db, job.id, **OTHER), lambda job=job: jobs.cancel(db, job.id)
            )
            found = job_queries.get(db, job.id)
            assert found.cancel_requested
            assert found.status == ("cancelled" if claim is None else "running")

    def test_cancel_and_finish_at_the_same_moment_agree(self, db, claimed, model, is_done, at_once):
        for _ in range(10):
            claim = claimed()
            job_id = claim.job.id
            _, version = at_once(
                lambda job_id=job_id: jobs.cancel(db, job_id),
                lambda claim=claim: jobs.finish(db, claim.job.id, claim.fence, model()),
            )
            assert version is not None
            assert job_queries.get(db, job_id).status == "succeeded"
            assert is_done(job_id)


class TestRetry:
    def test_a_retry_is_a_new_job_that_goes_on_from_the_old_ones_checkpoint(self, db, claimed):
        claim = claimed(name="mine", metadata={"a": 1})
        old = claim.job
        jobs.record(db, old.id, claim.fence, reports=[Checkpoint(7, 1, f"{old.id}/1/7", 100)])
        jobs.attempt_failed(db, old.id, claim.fence, **FAILURE, retryable=False)
        new = jobs.retry(db, old.id)
        assert new.id != old.id
        assert (new.status, new.attempt, new.resumed_from) == ("queued", 0, old.id)
        for same in ("name", "metadata", "spec", "framework", "dataset_id", "max_attempts"):
            assert getattr(new, same) == getattr(old, same)
        assert job_queries.latest_checkpoint(db, new.id).folder == f"{old.id}/1/7"
        assert job_queries.get(db, old.id).status == "failed"

    def test_a_cancelled_job_can_be_retried(self, db, queued):
        job = jobs.cancel(db, queued().id)
        assert jobs.retry(db, job.id).status == "queued"

    @pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
    def test_a_job_in_another_state_cannot(self, db, queued, model, state):
        job = queued()
        if state != "queued":
            claim = jobs.claim(db, job.id, **OTHER)
        if state == "succeeded":
            jobs.finish(db, job.id, claim.fence, model())
        with pytest.raises(Conflict, match=state):
            jobs.retry(db, job.id)

    def test_an_unknown_job_cannot(self, db):
        with pytest.raises(NotFound):
            jobs.retry(db, "job_none")


class TestIdempotentCreate:
    ROUTE = "POST /jobs"

    def begin(self, db, body="body"):
        return idempotency.begin(db, "key", self.ROUTE, idempotency.fingerprint(body))

    def test_the_job_is_tied_to_the_key_by_its_own_transaction(self, db, job_spec):
        claim = self.begin(db)
        digits = datasets.get(db, "digits")
        job = jobs.create(db, job_spec(), digits, max_attempts=3, idempotency=claim)
        # The process dies here, before complete(): the same request must find its job.
        with pytest.raises(Conflict):
            self.begin(db)
        idempotency.abandon(db, claim)
        with pytest.raises(Conflict):
            self.begin(db)
        assert job_queries.page(db).data == (job,)

    def test_after_a_crash_the_same_request_finds_the_job(self, db, job_spec):
        crashed = idempotency.begin(db, "key", self.ROUTE, idempotency.fingerprint("body"), in_flight_s=0.001)
        job = jobs.create(db, job_spec(), datasets.get(db, "digits"), max_attempts=3, idempotency=crashed)
        time.sleep(0.01)
        again = self.begin(db)
        assert isinstance(again, idempotency.Created)
        assert again.resource_id == job.id

    def test_who_lost_the_key_creates_nothing(self, db, job_spec):
        digits = datasets.get(db, "digits")
        slow = idempotency.begin(db, "key", self.ROUTE, idempotency.fingerprint("body"), in_flight_s=0.001)
        time.sleep(0.01)
        taken_over = self.begin(db)
        with pytest.raises(Conflict):
            jobs.create(db, job_spec(), digits, max_attempts=3, idempotency=slow)
        job = jobs.create(db, job_spec(), digits, max_attempts=3, idempotency=taken_over)
        assert [one.id for one in job_queries.page(db).data] == [job.id]

    def test_the_same_request_many_times_at_once_makes_one_row(self, db, job_spec, at_once):
        digits = datasets.get(db, "digits")

        def post():
            claim = self.begin(db)
            if isinstance(claim, idempotency.StoredAnswer):
                return claim.body
            job = jobs.create(db, job_spec(), digits, max_attempts=3, idempotency=claim)
            idempotency.complete(db, claim, 201, job.id)
            return job.id

        answers = at_once(*[post] * 8)
        (job,) = job_queries.page(db).data
        assert all(answer == job.id or isinstance(answer, Conflict) for answer in answers)
        assert post() == job.id

    def test_a_retry_can_be_tied_to_a_key_too(self, db, queued):
        job = jobs.cancel(db, queued().id)
        claim = self.begin(db)
        new = jobs.retry(db, job.id, idempotency=claim)
        idempotency.complete(db, claim, 201, new.id)
        assert self.begin(db).body == new.id
