"""Cancelling, retrying, following and repeating jobs on the real stack."""

import threading
import time

import httpx
import pytest

from app.client import Tandem, TandemAPIError

pytestmark = pytest.mark.timeout(300)

LONG = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "cnn", "width": 16},
    "training": {"epochs": 2000},
    "name": "long",
}
SHORT = {**LONG, "training": {"epochs": 1}, "model": {"architecture": "linear"}, "name": "short"}


def running(tandem, job_id):
    """Wait until the job has done a step."""
    for event in tandem.follow(job_id):
        if event.type == "progress" and event.data["step"] > 0:
            return
    raise AssertionError(f"{job_id} ended: {tandem.job(job_id)}")


def test_a_running_job_is_cancelled_within_seconds_and_the_worker_goes_on(tandem):
    job = tandem.create_job(LONG)
    running(tandem, job.id)
    tandem.cancel(job.id)
    began = time.monotonic()
    ended = tandem.wait(job.id)
    assert ended.status == "cancelled"
    assert time.monotonic() - began < 15
    assert tandem.cancel(job.id).status == "cancelled"
    assert tandem.wait(tandem.create_job(SHORT).id).status == "succeeded"


def test_a_queued_job_is_cancelled_at_once_and_never_runs(tandem):
    first, second = tandem.create_job(LONG), tandem.create_job({**SHORT, "name": "never"})
    running(tandem, first.id)
    assert tandem.cancel(second.id).status == "cancelled"
    tandem.cancel(first.id)
    assert tandem.wait(first.id).status == "cancelled"
    assert tandem.wait(tandem.create_job(SHORT).id).status == "succeeded"
    assert tandem.job(second.id).status == "cancelled"
    assert tandem.job(second.id).attempt == 0
    with pytest.raises(TandemAPIError, match="never"):
        tandem.model("never")


def test_a_cancelled_job_goes_on_from_its_checkpoint_when_retried(tandem):
    job = tandem.create_job({**LONG, "training": {"max_steps": 600, "checkpoint_every_s": 0.2}})
    for event in tandem.follow(job.id):
        if event.type == "checkpoint":
            tandem.cancel(job.id)
            break
    assert tandem.wait(job.id).status == "cancelled"
    again = tandem.retry(job.id)
    assert again.resumed_from == job.id
    ended = tandem.wait(again.id)
    assert ended.status == "succeeded"
    assert ended.progress.step == 600
    assert min(tandem.metrics(again.id)["step"]) > 1


def test_a_finished_job_cannot_be_cancelled(tandem):
    job = tandem.wait(tandem.create_job(SHORT).id)
    with pytest.raises(TandemAPIError) as caught:
        tandem.cancel(job.id)
    assert caught.value.status == 409


def test_a_dropped_stream_is_continued_without_loss_or_repetition(tandem_up, tandem):
    job = tandem.create_job({**SHORT, "training": {"epochs": 40}})
    seen, last = [], 0
    while not any(kind == "done" for _, kind in seen):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
        with httpx.stream("GET", f"{tandem_up}/jobs/{job.id}/events", headers=headers, timeout=60) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            identifier, got = None, 0
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    identifier = int(value)
                elif name == "event":
                    seen.append((identifier, value))
                    got += 1
                elif not line and got >= 7:
                    break  # the connection drops
            last = seen[-1][0]
    numbers = [number for number, _ in seen]
    assert numbers == sorted(set(numbers))
    # progress events are replaced by later ones; of everything else none may be missing
    stored = tandem_events(tandem_up, job.id)
    assert [event for event in seen if event[1] != "progress"] == [
        event for event in stored if event[1] != "progress"
    ]
    assert seen[-1][1] == "done"


def tandem_events(url, job_id):
    found, after = [], 0
    while True:
        page = httpx.get(f"{url}/jobs/{job_id}/events", params={"after": after, "limit": 200}).json()
        for event in page["data"]:
            after = int(event["id"])
            found.append((after, event["type"]))
        if not page["has_more"]:
            return found


def test_the_same_key_makes_one_job_however_often_and_at_once_it_is_sent(tandem_up):
    answers = []

    def post():
        answers.append(
            httpx.post(f"{tandem_up}/jobs", json=SHORT, headers={"Idempotency-Key": "once"}, timeout=30)
        )

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    post()
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert answers[-1].status_code == 201
    other = httpx.post(
        f"{tandem_up}/jobs", json={**SHORT, "name": "other"}, headers={"Idempotency-Key": "once"}
    )
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_a_job_that_diverges_fails_and_names_the_step(tandem):
    job = tandem.wait(
        tandem.create_job(
            {
                **SHORT,
                "dataset": "diabetes",
                "training": {
                    "epochs": 50,
                    "optimizer": {"name": "sgd", "learning_rate": 1000.0},
                    "schedule": {"name": "constant"},
                },
            }
        ).id
    )
    assert job.status == "failed"
    assert job.error.code == "diverged"
    assert "at step" in job.error.message
    assert job.attempt == 1


def test_max_seconds_ends_a_job_with_the_model_it_has(tandem):
    job = tandem.wait(tandem.create_job({**LONG, "training": {"epochs": 2000, "max_seconds": 2.0}}).id)
    assert job.status == "succeeded"
    assert job.stop_reason == "max_seconds"
    assert job.result is not None


def test_the_log_of_a_job_can_be_read(tandem_up):
    with Tandem(tandem_up) as tandem:
        job = tandem.wait(tandem.create_job(SHORT).id)
        assert isinstance(tandem.logs(job.id), str)
