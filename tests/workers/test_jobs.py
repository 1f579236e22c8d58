"""The state machine, transition by transition, on both databases; the refused ones too."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import Conflict, NotFound
from workers import datasets, dispatch, idempotency, job_queries, jobs, registry
from workers.reports import Checkpoint, LogLines, Metrics, Progress

OTHER = {"worker": "wrk_2", "host": "there", "lease_s": 60}
FAILURE = {"code": "crashed", "message": "The trainer ended with code 1.", "backoff_s": 0}


def statuses(db, job_id):
    return [event.data["status"] for event in job_queries.events(db, job_id) if event.type == "status"]


def is_done(db, job_id):
    """Whether the events end with `done`, and it comes once."""
    return [event.type for event in job_queries.events(db, job_id)].index("done") == (
        len(job_queries.events(db, job_id)) - 1
    )


def outcomes(db, job_id):
    return [attempt.outcome for attempt in job_queries.attempts(db, job_id)]


def at_once(*calls):
    """The results of calls made by real threads at the same moment; an exception counts as a result."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait()
        try:
            return call()
        except Exception as problem:  # noqa: BLE001 - the test looks at it
            return problem

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def let_lease_expire(db, claim):
    jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=0.001)
    time.sleep(0.01)
    return dispatch.expire_leases(db)


class TestCreate:
    def test_a_new_job_is_queued_and_says_all_that_was_asked(self, db, job_spec):
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
        assert statuses(db, job.id) == ["queued"]

    def test_a_model_without_a_name_is_called_after_dataset_and_architecture(self, queued):
        assert queued().name == "digits-mlp"

    def test_a_name_made_of_a_long_datasets_name_is_still_a_name(self):
        name = jobs.default_name("d" * 64, "resnet18")
        assert len(name) == 64
        assert name.endswith("d-resnet18")

    def test_the_clock_is_the_databases(self, queued):
        assert abs(queued().created_at.timestamp() - time.time()) < 5


class TestClaim:
    def test_a_claim_starts_the_job_under_a_new_fence(self, db, queued):
        job = queued()
        claim = jobs.claim(db, job.id, worker="wrk_1", host="here", lease_s=60)
        assert (claim.attempt, claim.fence) == (1, 1)
        assert (claim.job.status, claim.job.worker) == ("running", "wrk_1")
        assert claim.job.started_at >= job.created_at
        waited_s = (claim.job.started_at - claim.job.created_at).total_seconds()
        assert claim.job.timing["queued_s"] == pytest.approx(waited_s, abs=1e-4)
        assert statuses(db, job.id) == ["queued", "running"]

    def test_the_attempt_is_written_down(self, db, claimed):
        claim = claimed()
        (attempt,) = job_queries.attempts(db, claim.job.id)
        assert (attempt.fence, attempt.attempt, attempt.worker, attempt.host) == (1, 1, "wrk_1", "here")
        assert (attempt.ended_at, attempt.outcome) == (None, None)

    def test_a_running_job_cannot_be_claimed(self, db, claimed):
        assert jobs.claim(db, claimed().job.id, **OTHER) is None

    def test_of_many_threads_that_claim_one_job_one_gets_it(self, db, queued):
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

    def test_a_stale_fence_gets_no_heartbeat(self, db, claimed):
        claim = claimed()
        let_lease_expire(db, claim)
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive
        assert jobs.claim(db, claim.job.id, **OTHER).fence == claim.fence + 2
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive

    def test_a_finished_job_gets_no_heartbeat(self, db, claimed, model):
        claim = claimed()
        jobs.finish(db, claim.job.id, claim.fence, model())
        assert not jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).alive


class TestRecord:
    def test_progress_shows_on_the_job_and_only_the_newest_is_an_event(self, db, claimed):
        claim = claimed()
        for step in range(1, 6):
            assert jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 2, step, 10))
        job = job_queries.get(db, claim.job.id)
        assert (job.epoch, job.epochs, job.step, job.total_steps) == (0, 2, 5, 10)
        progress = [event for event in job_queries.events(db, job.id) if event.type == "progress"]
        assert [event.data["step"] for event in progress] == [5]

    def test_event_numbers_only_grow(self, db, claimed):
        claim = claimed()
        for step in range(3):
            jobs.record(
                db, claim.job.id, claim.fence, progress=Progress(0, 1, step, 10), reports=[LogLines("x\n")]
            )
        numbers = [event.seq for event in job_queries.events(db, claim.job.id)]
        assert numbers == sorted(set(numbers))

    def test_threads_that_record_together_get_different_numbers(self, db, claimed):
        claim = claimed()
        at_once(*[lambda: jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("x\n")] * 5)] * 8)
        logged = [event.seq for event in job_queries.events(db, claim.job.id) if event.type == "log"]
        assert len(set(logged)) == 40
        assert job_queries.logs(db, claim.job.id) == "x\n" * 40

    def test_the_end_is_estimated_from_the_pace(self, db, claimed):
        claim = claimed()
        jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 1, 10, 100))
        assert job_queries.get(db, claim.job.id).estimated_finish is None
        time.sleep(0.2)
        jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 1, 20, 100))
        job = job_queries.get(db, claim.job.id)
        assert 1.0 < job.estimated_finish.timestamp() - time.time() < 20.0

    def test_metrics_and_timing_are_merged(self, db, claimed):
        claim = claimed()
        where = (db, claim.job.id, claim.fence)
        jobs.record(*where, metrics={"a": 1.0, "b": 2.0}, timing={"setup_s": 0.5})
        jobs.record(*where, metrics={"b": 3.0}, timing={"compile_s": 1.5})
        job = job_queries.get(db, claim.job.id)
        assert job.metrics == {"a": 1.0, "b": 3.0}
        assert (job.timing["setup_s"], job.timing["compile_s"]) == (0.5, 1.5)
        assert "queued_s" in job.timing

    def test_measurements_show_on_the_job_as_an_event_and_in_the_curves(self, db, claimed):
        claim = claimed()
        jobs.record(db, claim.job.id, claim.fence, reports=[Metrics(4, 1, "validation", {"accuracy": 0.5})])
        event = job_queries.events(db, claim.job.id)[-1]
        assert (event.type, event.data) == ("metric", {"step": 4, "epoch": 1, "validation_accuracy": 0.5})
        assert job_queries.get(db, claim.job.id).metrics == {"validation_accuracy": 0.5}
        assert job_queries.metrics(db, claim.job.id)["validation_accuracy"] == [0.5]

    def test_a_value_that_json_cannot_hold_becomes_null(self, db, claimed):
        claim = claimed()
        reports = [Metrics(4, 1, "train", {"loss": float("nan")})]
        jobs.record(db, claim.job.id, claim.fence, reports=reports, metrics={"x": float("inf")})
        assert job_queries.get(db, claim.job.id).metrics == {"train_loss": None, "x": None}

    def test_text_that_a_database_cannot_hold_is_replaced(self, db, claimed):
        claim = claimed()
        jobs.record(db, claim.job.id, claim.fence, phase="a\0b", reports=[LogLines("c\0d\ud800e\n")])
        assert job_queries.get(db, claim.job.id).phase == "a�b"
        assert "\0" not in job_queries.logs(db, claim.job.id)

    def test_phase_device_and_dataset_show_on_the_job(self, db, claimed):
        claim = claimed()
        jobs.record(db, claim.job.id, claim.fence, phase="compiling", device="cpu", dataset_sha256="ab")
        job = job_queries.get(db, claim.job.id)
        assert (job.phase, job.device, job.dataset_sha256) == ("compiling", "cpu", "ab")
        assert job_queries.attempts(db, job.id)[0].device == "cpu"
        assert job_queries.events(db, job.id)[-1].data["phase"] == "compiling"

    def test_a_stale_fence_records_nothing(self, db, claimed):
        claim = claimed()
        let_lease_expire(db, claim)
        before = job_queries.events(db, claim.job.id)
        reports = [LogLines("late\n"), Checkpoint(1, 0, "late", 1), Metrics(1, 0, "train", {"loss": 1.0})]
        assert not jobs.record(
            db, claim.job.id, claim.fence, phase="late", progress=Progress(0, 1, 1, 2), reports=reports
        )
        assert job_queries.events(db, claim.job.id) == before
        assert job_queries.checkpoints(db, claim.job.id) == []
        assert job_queries.metrics(db, claim.job.id)["step"] == []

    def test_a_long_log_is_cut_once_and_says_so(self, db, claimed):
        claim = claimed()
        line = "é" * 49_999 + "\n"
        for _ in range(15):
            jobs.record(db, claim.job.id, claim.fence, reports=[LogLines(line)])
        log = job_queries.logs(db, claim.job.id)
        assert log.startswith(line * 10)
        assert 1_000_000 <= len(log.encode()) < 1_000_200
        assert log.count("the log is cut here") == 1

    def test_one_report_beyond_the_logs_limit_is_cut_too(self, db, claimed):
        claim = claimed()
        jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("x" * 3_000_000)])
        log = job_queries.logs(db, claim.job.id)
        assert log.startswith("x" * 999_999)
        assert len(log) < 1_000_200


class TestFinish:
    def test_success_registers_the_next_version_with_the_job(self, db, claimed, model):
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
        assert outcomes(db, job.id) == ["succeeded"]
        assert statuses(db, job.id) == ["queued", "running", "succeeded"]
        assert is_done(db, job.id)

    def test_the_result_of_a_lost_worker_is_refused_after_expiry(self, db, claimed, model):
        claim = claimed()
        let_lease_expire(db, claim)
        assert jobs.finish(db, claim.job.id, claim.fence, model()) is None
        assert job_queries.get(db, claim.job.id).status == "queued"
        with pytest.raises(NotFound):
            registry.resolve(db, "digits-mlp")

    def test_the_result_of_a_lost_worker_is_refused_while_another_runs_and_after(self, db, claimed, model):
        lost = claimed()
        let_lease_expire(db, lost)
        claim = jobs.claim(db, lost.job.id, **OTHER)
        assert jobs.finish(db, claim.job.id, lost.fence, model(b"zombie")) is None
        assert jobs.finish(db, claim.job.id, claim.fence, model(b"right")).sha256 == model(b"right").sha256
        assert jobs.finish(db, claim.job.id, lost.fence, model(b"zombie")) is None
        assert len(registry.get(db, "digits-mlp").versions) == 1

    def test_a_job_finishes_once(self, db, claimed, model):
        claim = claimed()
        results = at_once(*[lambda: jobs.finish(db, claim.job.id, claim.fence, model())] * 4)
        assert sum(result is not None for result in results) == 1
        assert len(registry.get(db, "digits-mlp").versions) == 1
        assert is_done(db, claim.job.id)

    def test_jobs_that_finish_together_get_different_versions(self, db, claimed, model):
        claims = [claimed() for _ in range(6)]
        made = at_once(*[lambda c=c: jobs.finish(db, c.job.id, c.fence, model()) for c in claims])
        assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]


class TestRelease:
    def test_a_released_job_is_queued_at_once_and_the_attempt_is_not_charged(self, db, claimed):
        claim = claimed(max_attempts=1)
        assert jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        job = job_queries.get(db, claim.job.id)
        assert (job.status, job.attempt, job.worker, job.finished_at) == ("queued", 0, None, None)
        again = jobs.claim(db, claim.job.id, **OTHER)
        assert (again.attempt, again.fence) == (1, 3)
        assert outcomes(db, job.id) == ["released", None]

    def test_a_released_job_that_was_to_be_cancelled_is_cancelled(self, db, claimed):
        claim = claimed()
        jobs.cancel(db, claim.job.id)
        assert jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        assert job_queries.get(db, claim.job.id).status == "cancelled"
        assert is_done(db, claim.job.id)

    def test_a_stale_fence_releases_nothing(self, db, claimed):
        claim = claimed()
        let_lease_expire(db, claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert not jobs.release(db, claim.job.id, claim.fence, reason="shutdown")
        assert job_queries.get(db, claim.job.id).status == "running"


class TestAttemptFailed:
    def test_a_failed_attempt_is_made_again_until_they_are_used_up(self, db, queued):
        job = queued(max_attempts=3)
        becomes = []
        while (claim := jobs.claim(db, job.id, **OTHER)) is not None:
            becomes.append(jobs.attempt_failed(db, job.id, claim.fence, **FAILURE, retryable=True))
        assert becomes == ["queued", "queued", "failed"]
        job = job_queries.get(db, job.id)
        assert (job.status, job.attempt) == ("failed", 3)
        assert (job.error_code, job.error_message) == ("crashed", FAILURE["message"])
        assert job.finished_at is not None
        assert outcomes(db, job.id) == ["failed"] * 3
        assert is_done(db, job.id)

    def test_a_failure_that_would_come_again_ends_the_job(self, db, claimed):
        claim = claimed()
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=False) == "failed"
        assert jobs.claim(db, claim.job.id, **OTHER) is None

    def test_a_failed_attempt_of_a_job_to_be_cancelled_cancels_it(self, db, claimed):
        claim = claimed()
        jobs.cancel(db, claim.job.id)
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=True) == "cancelled"

    def test_a_stale_fence_fails_nothing(self, db, claimed):
        claim = claimed()
        let_lease_expire(db, claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=False) is None
        assert job_queries.get(db, claim.job.id).status == "running"

    def test_an_attempt_after_a_failure_shows_no_old_error(self, db, claimed):
        claim = claimed()
        jobs.attempt_failed(db, claim.job.id, claim.fence, **FAILURE, retryable=True)
        assert jobs.claim(db, claim.job.id, **OTHER).job.error_code is None


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, db, queued):
        job = jobs.cancel(db, queued().id)
        assert job.status == "cancelled"
        assert job.finished_at is not None
        assert is_done(db, job.id)

    def test_a_running_job_is_asked_to_end_and_ended_by_its_supervisor(self, db, claimed):
        claim = claimed()
        job = jobs.cancel(db, claim.job.id)
        assert (job.status, job.cancel_requested, job.finished_at) == ("running", True, None)
        assert jobs.cancelled(db, claim.job.id, claim.fence)
        assert job_queries.get(db, job.id).status == "cancelled"
        assert outcomes(db, job.id) == ["cancelled"]
        assert is_done(db, job.id)

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

    def test_a_stale_fence_cancels_nothing(self, db, claimed):
        claim = claimed()
        let_lease_expire(db, claim)
        jobs.claim(db, claim.job.id, **OTHER)
        assert not jobs.cancelled(db, claim.job.id, claim.fence)

    def test_cancel_and_claim_at_the_same_moment_never_lose_the_wish(self, db, queued):
        for _ in range(10):
            job = queued()
            claim, _ = at_once(
                lambda job=job: jobs.claim(db, job.id, **OTHER), lambda job=job: jobs.cancel(db, job.id)
            )
            found = job_queries.get(db, job.id)
            assert found.cancel_requested
            assert found.status == ("cancelled" if claim is None else "running")

    def test_cancel_and_finish_at_the_same_moment_agree(self, db, claimed, model):
        for _ in range(10):
            claim = claimed()
            job_id = claim.job.id
            _, version = at_once(
                lambda job_id=job_id: jobs.cancel(db, job_id),
                lambda claim=claim: jobs.finish(db, claim.job.id, claim.fence, model()),
            )
            assert version is not None
            assert job_queries.get(db, job_id).status == "succeeded"
            assert is_done(db, job_id)


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

    def test_the_same_request_many_times_at_once_makes_one_row(self, db, job_spec):
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


def test_a_storm_of_claims_expiries_and_results_publishes_each_job_once(db, queued, model):
    """Eight supervisors, half of them slower than their lease, and a reconciler, all at once."""
    waiting = [queued(max_attempts=50).id for _ in range(6)]
    over = threading.Event()
    published = []

    def supervise(slow):
        while not over.is_set():
            for job_id in waiting:
                claim = jobs.claim(db, job_id, worker="w", host="h", lease_s=0.02 if slow else 30)
                if claim is None:
                    continue
                time.sleep(0.03 if slow else 0.001)
                if jobs.finish(db, job_id, claim.fence, model()) is not None:
                    published.append(job_id)

    def reconcile():
        while not over.is_set():
            dispatch.expire_leases(db)
            time.sleep(0.005)

    threads = [threading.Thread(target=supervise, args=(number % 2 == 0,)) for number in range(8)]
    threads += [threading.Thread(target=reconcile) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(set(published)) < len(waiting) and time.monotonic() < deadline:
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(published) == sorted(waiting)
    assert {job_queries.get(db, job_id).status for job_id in waiting} == {"succeeded"}
    versions = [version.version for version in registry.get(db, "digits-mlp").versions]
    assert sorted(versions) == list(range(1, len(waiting) + 1))
    for job_id in waiting:
        fences = [attempt.fence for attempt in job_queries.attempts(db, job_id)]
        assert all(later > earlier for earlier, later in itertools.pairwise(fences))
        assert is_done(db, job_id)
