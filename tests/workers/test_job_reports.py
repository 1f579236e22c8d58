"""What a running attempt tells, on both databases: progress, metrics, log, and nothing once it was given up."""

import time

from workers import job_queries, jobs
from workers.reports import Checkpoint, LogLines, Metrics, Progress


def test_progress_shows_on_the_job_and_only_the_newest_is_an_event(db, claimed):
    claim = claimed()
    for step in range(1, 6):
        assert jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 2, step, 10))
    job = job_queries.get(db, claim.job.id)
    assert (job.epoch, job.epochs, job.step, job.total_steps) == (0, 2, 5, 10)
    progress = [event for event in job_queries.events(db, job.id) if event.type == "progress"]
    assert [event.data["step"] for event in progress] == [5]


def test_event_numbers_only_grow(db, claimed):
    claim = claimed()
    for step in range(3):
        jobs.record(
            db, claim.job.id, claim.fence, progress=Progress(0, 1, step, 10), reports=[LogLines("x\n")]
        )
    numbers = [event.seq for event in job_queries.events(db, claim.job.id)]
    assert numbers == sorted(set(numbers))


def test_threads_that_record_together_get_different_numbers(db, claimed, at_once):
    claim = claimed()
    at_once(*[lambda: jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("x\n")] * 5)] * 8)
    logged = [event.seq for event in job_queries.events(db, claim.job.id) if event.type == "log"]
    assert len(set(logged)) == 40
    assert job_queries.logs(db, claim.job.id) == "x\n" * 40


def test_the_end_is_estimated_from_the_pace(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 1, 10, 100))
    assert job_queries.get(db, claim.job.id).estimated_finish is None
    time.sleep(0.2)
    jobs.record(db, claim.job.id, claim.fence, progress=Progress(0, 1, 20, 100))
    job = job_queries.get(db, claim.job.id)
    assert 1.0 < job.estimated_finish.timestamp() - time.time() < 20.0


def test_metrics_and_timing_are_merged(db, claimed):
    claim = claimed()
    where = (db, claim.job.id, claim.fence)
    jobs.record(*where, metrics={"a": 1.0, "b": 2.0}, timing={"setup_s": 0.5})
    jobs.record(*where, metrics={"b": 3.0}, timing={"compile_s": 1.5})
    job = job_queries.get(db, claim.job.id)
    assert job.metrics == {"a": 1.0, "b": 3.0}
    assert (job.timing["setup_s"], job.timing["compile_s"]) == (0.5, 1.5)
    assert "queued_s" in job.timing


def test_measurements_show_on_the_job_as_an_event_and_in_the_curves(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, reports=[Metrics(4, 1, "validation", {"accuracy": 0.5})])
    event = job_queries.events(db, claim.job.id)[-1]
    assert (event.type, event.data) == ("metric", {"step": 4, "epoch": 1, "validation_accuracy": 0.5})
    assert job_queries.get(db, claim.job.id).metrics == {"validation_accuracy": 0.5}
    assert job_queries.metrics(db, claim.job.id)["validation_accuracy"] == [0.5]


def test_a_value_that_json_cannot_hold_becomes_null(db, claimed):
    claim = claimed()
    reports = [Metrics(4, 1, "train", {"loss": float("nan")})]
    jobs.record(db, claim.job.id, claim.fence, reports=reports, metrics={"x": float("inf")})
    assert job_queries.get(db, claim.job.id).metrics == {"train_loss": None, "x": None}


def test_text_that_a_database_cannot_hold_is_replaced(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, phase="a\0b", reports=[LogLines("c\0d\ud800e\n")])
    assert job_queries.get(db, claim.job.id).phase == "a�b"
    assert "\0" not in job_queries.logs(db, claim.job.id)


def test_phase_device_and_dataset_show_on_the_job(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, phase="compiling", device="cpu", dataset_sha256="ab")
    job = job_queries.get(db, claim.job.id)
    assert (job.phase, job.device, job.dataset_sha256) == ("compiling", "cpu", "ab")
    assert job_queries.attempts(db, job.id)[0].device == "cpu"
    assert job_queries.events(db, job.id)[-1].data["phase"] == "compiling"


def test_a_stale_fence_records_nothing(db, claimed, let_lease_expire):
    claim = claimed()
    let_lease_expire(claim)
    before = job_queries.events(db, claim.job.id)
    reports = [LogLines("late\n"), Checkpoint(1, 0, "late", 1), Metrics(1, 0, "train", {"loss": 1.0})]
    assert not jobs.record(
        db, claim.job.id, claim.fence, phase="late", progress=Progress(0, 1, 1, 2), reports=reports
    )
    assert job_queries.events(db, claim.job.id) == before
    assert job_queries.checkpoints(db, claim.job.id) == []
    assert job_queries.metrics(db, claim.job.id)["step"] == []


def test_a_long_log_is_cut_once_and_says_so(db, claimed):
    claim = claimed()
    line = "é" * 49_999 + "\n"
    for _ in range(15):
        jobs.record(db, claim.job.id, claim.fence, reports=[LogLines(line)])
    log = job_queries.logs(db, claim.job.id)
    assert log.startswith(line * 10)
    assert 1_000_000 <= len(log.encode()) < 1_000_200
    assert log.count("the log is cut here") == 1


def test_one_report_beyond_the_logs_limit_is_cut_too(db, claimed):
    claim = claimed()
    jobs.record(db, claim.job.id, claim.fence, reports=[LogLines("x" * 3_000_000)])
    log = job_queries.logs(db, claim.job.id)
    assert log.startswith("x" * 999_999)
    assert len(log) < 1_000_200
