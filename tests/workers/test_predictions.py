"""The states of a prediction, on both databases: those of a job, with a file at the end."""

import hashlib
import os
from functools import partial

import pytest
from sqlalchemy import func, select

from models.errors import Conflict, NotFound
from models.scoring.spec import ScoringSpec
from workers import (
    datasets,
    dispatch,
    idempotency,
    job_queries,
    jobs,
    predictions,
    references,
    registry,
)
from workers.idempotency import IdempotencyClaim
from workers.reports import FinishedPrediction, LogLines, RowProgress
from workers.tables import AttemptRow, EventRow, JobRow


@pytest.fixture
def version(db, claimed, model):
    """A registered model of the digits."""
    claim = claimed()
    return jobs.finish(db, claim.job.id, claim.fence, model())


@pytest.fixture
def asked(db, version):
    """Ask for a prediction."""

    def make(idempotency=None, **fields):
        known = {"engine": "jax", "precision": "float32", "rows": 270, "dataset": "digits"}
        spec = ScoringSpec(model=f"{version.name}@{version.version}", **{**known, **fields})
        dataset = datasets.get(db, "digits")
        return predictions.create(db, spec, dataset, version, max_attempts=2, idempotency=idempotency)

    return make


@pytest.fixture
def running(db, asked):
    """Ask for a prediction, and claim it."""

    def make(**fields):
        return jobs.claim(db, asked(**fields).id, worker="wrk_1", host="here", lease_s=60)

    return make


def finished(content=b"rows"):
    sha256 = hashlib.sha256(content).hexdigest()
    return FinishedPrediction(sha256, len(content), {"accuracy": 0.5, "loss": float("nan")}, {"score_s": 1.0})


def stored(store, content):
    with store.scratch() as path:
        path.write_bytes(content)
        sha256 = store.adopt(path).sha256
    path = store.path(sha256)
    path.chmod(0o644)
    os.utime(path, (1, 1))
    return sha256


def test_a_long_queue_of_jobs_does_not_keep_an_older_prediction_from_being_sent_again(db, asked, queued):
    prediction = asked()
    newer = [queued(framework="jax").id for _ in range(3)]
    assert dispatch.stale_queued(db, 30, limit=2) == [(prediction.id, "jax"), (newer[0], "jax")]


def test_a_new_prediction_waits_for_a_worker_of_its_engine(db, asked, version):
    made = asked(metadata={"a": 1})
    assert made.id.startswith("pred_")
    assert (made.kind, made.status, made.framework) == ("prediction", "queued", "jax")
    assert (made.name, made.model_name, made.model_version) == (version.name, version.name, version.version)
    assert (made.dataset_name, made.metadata) == ("digits", {"a": 1})
    assert dispatch.stale_queued(db, 30) == [(made.id, "jax")]
    assert job_queries.get(db, made.id, "prediction") == made


def test_a_claimed_prediction_tells_how_many_rows_it_has(db, running):
    claim = running()
    for rows in (256, 270):
        progress = RowProgress(rows, 270)
        assert jobs.record(db, claim.job.id, claim.fence, progress=progress, reports=[LogLines("hello\n")])
    found = job_queries.get(db, claim.job.id)
    assert (found.step, found.total_steps, found.epoch) == (270, 270, None)
    told = [event.data for event in job_queries.events(db, claim.job.id) if event.type == "progress"]
    assert told == [{"rows": 270, "total_rows": 270}]
    assert job_queries.logs(db, claim.job.id) == "hello\nhello\n"


def test_it_succeeds_once_with_a_file_and_registers_no_model(db, running, version, statuses, is_done):
    claim = running()
    assert predictions.finish(db, claim.job.id, claim.fence, finished())
    done = job_queries.get(db, claim.job.id)
    assert (done.status, done.artifact_sha256, done.artifact_bytes) == ("succeeded", finished().sha256, 4)
    assert done.metrics == {"accuracy": 0.5, "loss": None}
    assert done.timing["score_s"] == 1.0
    assert statuses(done.id) == ["queued", "running", "succeeded"]
    assert is_done(done.id)
    assert not predictions.finish(db, claim.job.id, claim.fence, finished(b"other"))
    assert registry.get(db, version.name).versions == (version,)


def test_an_attempt_that_lost_its_lease_is_refused(db, running, let_lease_expire, outcomes):
    claim = running()
    (expired,) = let_lease_expire(claim)
    assert (expired.job_id, expired.framework, expired.status) == (claim.job.id, "jax", "queued")
    again = jobs.claim(db, claim.job.id, worker="wrk_2", host="there", lease_s=60)
    assert not predictions.finish(db, claim.job.id, claim.fence, finished())
    assert predictions.finish(db, claim.job.id, again.fence, finished(b"again"))
    assert outcomes(claim.job.id) == ["lost", "succeeded"]


def test_a_cancelled_prediction_is_retried_as_a_new_one(db, asked):
    made = asked(split="all", rows=1797)
    assert jobs.cancel(db, made.id, "prediction").status == "cancelled"
    again = jobs.retry(db, made.id, "prediction")
    assert again.id != made.id
    assert (again.kind, again.status, again.resumed_from) == ("prediction", "queued", made.id)
    same = ("name", "framework", "spec", "dataset_id", "model_name", "model_version", "max_attempts")
    assert [getattr(again, name) for name in same] == [getattr(made, name) for name in same]
    with pytest.raises(Conflict, match=f"prediction {again.id} is queued"):
        jobs.retry(db, again.id, "prediction")


def test_a_prediction_whose_version_was_deleted_is_not_retried(db, store, asked, version):
    made = jobs.cancel(db, asked().id, "prediction")
    registry.delete_version(db, store, version.name, version.version)
    with pytest.raises(Conflict, match=f"{version.name}@{version.version}' was deleted"):
        jobs.retry(db, made.id, "prediction")
    assert len(job_queries.page(db, kind="prediction").data) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda db, store, id, folder: jobs.cancel(db, id),
        lambda db, store, id, folder: jobs.retry(db, id),
        lambda db, store, id, folder: job_queries.get(db, id, "training"),
        lambda db, store, id, folder: job_queries.events(db, id, kind="training"),
        lambda db, store, id, folder: job_queries.logs(db, id, "training"),
        lambda db, store, id, folder: job_queries.metrics(db, id, kind="training"),
        lambda db, store, id, folder: job_queries.checkpoints(db, id, "training"),
    ],
)
def test_a_prediction_is_no_job(db, store, asked, tmp_path, call):
    made = asked()
    with pytest.raises(NotFound, match="GET /jobs lists them"):
        call(db, store, made.id, tmp_path)
    assert job_queries.get(db, made.id).status == "queued"


@pytest.mark.parametrize(
    "call",
    [
        lambda db, store, id, folder: jobs.cancel(db, id, "prediction"),
        lambda db, store, id, folder: jobs.retry(db, id, "prediction"),
        lambda db, store, id, folder: job_queries.get(db, id, "prediction"),
        lambda db, store, id, folder: predictions.delete(db, store, folder, id),
    ],
)
def test_a_job_is_no_prediction(db, store, queued, tmp_path, call):
    job = queued()
    with pytest.raises(NotFound, match="GET /predictions lists them"):
        call(db, store, job.id, tmp_path)
    assert job_queries.get(db, job.id) == job


def test_lists_and_counts_are_of_one_kind(db, version, asked, queued):
    job, made = queued(framework="jax"), [asked().id for _ in range(2)]
    listed = [one.id for one in job_queries.page(db, kind="prediction").data]
    assert listed == made[::-1]
    assert {one.kind for one in job_queries.page(db).data} == {"training"}
    assert job_queries.counts(db) == {("torch", "succeeded"): 1, ("jax", "queued"): 1}
    assert job_queries.counts(db, "prediction") == {("jax", "queued"): 2}
    assert dispatch.claimable(db) == {"jax": 3}  # as many messages wait in the one queue
    assert job.id not in listed


def test_a_page_follows_a_prediction_that_was_deleted_meanwhile(db, store, asked, tmp_path):
    made = [asked().id for _ in range(3)]
    jobs.cancel(db, made[1], "prediction")
    predictions.delete(db, store, tmp_path, made[1])
    page = partial(job_queries.page, db, kind="prediction", after=made[1])
    assert [one.id for one in page().data] == [made[0]]
    assert [one.id for one in page(order="asc").data] == [made[2]]


def test_the_claim_of_a_request_is_tied_to_the_prediction(db, asked):
    claim = idempotency.begin(db, "key", "POST /predictions", "hash", in_flight_s=60)
    assert isinstance(claim, IdempotencyClaim)
    made = asked(idempotency=claim)
    with pytest.raises(Conflict):
        asked(idempotency=IdempotencyClaim(claim.route, claim.key, "another flight"))
    assert [one.id for one in job_queries.page(db, kind="prediction").data] == [made.id]


def test_a_file_stays_as_long_as_a_prediction_names_it(db, store, running, tmp_path):
    first, second = running(), running()
    sha256 = stored(store, b"rows")
    for claim in (first, second):
        assert predictions.finish(db, claim.job.id, claim.fence, finished())
    assert references.sweep(db, store) == []
    predictions.delete(db, store, tmp_path, first.job.id)
    assert store.exists(sha256)
    predictions.delete(db, store, tmp_path, second.job.id)
    assert not store.exists(sha256)


def test_nothing_is_left_of_a_deleted_prediction(db, store, running, tmp_path):
    claim, other = running(), running()
    job_id = claim.job.id
    jobs.record(db, job_id, claim.fence, reports=[LogLines("hello\n")])
    with pytest.raises(Conflict, match="is running"):
        predictions.delete(db, store, tmp_path, job_id)
    jobs.cancel(db, job_id, "prediction")
    jobs.cancelled(db, job_id, claim.fence)
    (tmp_path / job_id / "1").mkdir(parents=True)
    predictions.delete(db, store, tmp_path, job_id)
    assert not (tmp_path / job_id).exists()
    with db.reading() as session:
        for table in (AttemptRow, EventRow):
            assert session.scalar(select(func.count()).where(table.job_id == job_id)) == 0
            assert session.scalar(select(func.count()).where(table.job_id == other.job.id)) > 0
        assert session.get(JobRow, job_id) is None
    assert not jobs.heartbeat(db, job_id, claim.fence, lease_s=60).alive


def test_a_dataset_is_kept_for_a_prediction(db, store, version):
    data = datasets.samples(store, datasets.get(db, "digits"))
    record = datasets.add(db, store, "mine", data)
    about = {"model": "m@1", "dataset": "mine", "engine": "torch", "precision": "float32", "rows": 1}
    made = predictions.create(db, ScoringSpec(**about), record, version, max_attempts=1)
    with pytest.raises(Conflict, match=f"prediction {made.id} needs dataset 'mine'"):
        datasets.delete(db, store, "mine")
    jobs.cancel(db, made.id, "prediction")
    datasets.delete(db, store, "mine")
    with pytest.raises(NotFound, match="'mine' has been deleted"):
        jobs.retry(db, made.id, "prediction")
