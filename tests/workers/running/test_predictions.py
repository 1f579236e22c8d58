"""Predictions of whole datasets: real trainer processes, real signals, a real database."""

import os
import signal
import time
from threading import Event

import numpy as np
import pytest
from pyarrow import parquet
from sqlalchemy import update

from models.data.builtin import BUILTIN
from models.data.dataset import SPLITS
from models.errors import Conflict, NotFound
from workers import (
    checkpoints,
    datasets,
    dispatch,
    fleet,
    job_queries,
    jobs,
    messages,
    predictions,
    references,
    registry,
)
from workers.ledger import Ledger
from workers.reports import FinishedPrediction
from workers.settlement import Settlement
from workers.tables import DatasetRow

SLOW = {"slow_s": 0.15}


@pytest.fixture
def model(bench):
    """A trained model of the digits, by the id of its job."""
    job = bench.job()
    with bench.supervisor() as supervisor:
        supervisor.run(job)
    return job


def parts(bench, prediction):
    return [
        len(list(folder.glob("*.json")))
        for folder in checkpoints.attempts(bench.settings.checkpoints_dir, prediction)
    ]


def run(bench, *jobs_to_run):
    with bench.supervisor() as supervisor:
        for job in jobs_to_run:
            supervisor.run(job)


def sha256(bench, prediction):
    found = bench.get(prediction)
    assert found.status == "succeeded", found
    return found.artifact_sha256


def test_a_prediction_ends_as_a_file_with_a_row_for_each_sample(bench, model, tmp_path):
    prediction = bench.prediction(model)
    run(bench, prediction)
    done = bench.get(prediction)
    assert (done.status, done.model_name, done.model_version) == ("succeeded", "digits-linear", 1)
    assert done.step == done.total_steps == 1797
    assert {"queued_s", "setup_s", "score_s", "samples_per_s"} <= done.timing.keys()
    assert done.device == "cpu (numpy)"
    digits = BUILTIN["digits"].load(tmp_path)
    rows = parquet.read_table(bench.result(prediction)).to_pylist()
    assert [row["split"] for row in rows] == [name for name in SPLITS for _ in getattr(digits, name).y]
    assert [row["row"] for row in rows] == [i for name in SPLITS for i in range(len(getattr(digits, name)))]
    assert [row["target"] for row in rows] == [str(y) for name in SPLITS for y in getattr(digits, name).y]
    hits = np.mean([row["label"] == row["target"] for row in rows])
    assert done.metrics["accuracy"] == pytest.approx(hits, abs=1e-12)
    assert hits > 0.85
    assert [event.type for event in job_queries.events(bench.db, prediction)][-2:] == ["status", "done"]
    assert not list(bench.settings.work_dir.glob("pred_*"))
    assert parts(bench, prediction) == []


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_killed_trainer_is_followed_by_an_attempt_that_goes_on_from_its_parts(bench, model, format):
    undisturbed = bench.prediction(model, format=format)
    prediction = bench.prediction(model, format=format, metadata={"kill_at": 6, "kill_attempts": 1, **SLOW})
    with bench.supervisor() as supervisor:
        supervisor.run(undisturbed)
        supervisor.run(prediction)
        assert bench.status(prediction) == "queued"
        time.sleep(bench.settings.backoff_s + 0.05)
        supervisor.run(prediction)
    assert bench.outcomes(prediction) == ["failed", "succeeded"]
    first = job_queries.attempts(bench.db, prediction)[0]
    assert "SIGKILL" in first.reason
    assert " rows. " in first.reason
    assert "batch_size" not in first.reason
    assert sha256(bench, prediction) == sha256(bench, undisturbed)
    assert bench.get(prediction).metrics == bench.get(undisturbed).metrics


def test_a_drained_supervisor_gives_it_back_at_that_very_batch(bench, model):
    undisturbed = bench.prediction(model)
    prediction = bench.prediction(model, metadata={"kill_at": 6, "slow_s": 0.4})
    with bench.supervisor() as first, bench.running(first, prediction):
        assert bench.reaches(prediction, 4 * 256)
        first.drain()
    released = bench.get(prediction)
    assert (released.status, released.attempt) == ("queued", 0)
    run(bench, prediction, undisturbed)  # four batches are behind it, or it would die at the seventh
    assert bench.outcomes(prediction) == ["released", "succeeded"]
    assert sha256(bench, prediction) == sha256(bench, undisturbed)


@pytest.mark.parametrize(("number", "outcome"), [(signal.SIGTERM, "released"), (signal.SIGKILL, "lost")])
def test_the_prediction_of_a_worker_that_ends_is_finished_by_another(
    fleet_bench, eventually, number, outcome
):
    with fleet_bench.worker() as first:
        job = fleet_bench.submit()
        assert eventually(lambda: fleet_bench.status(job) == "succeeded")
        undisturbed = fleet_bench.announce(fleet_bench.prediction(job))
        assert eventually(lambda: fleet_bench.status(undisturbed) == "succeeded")
        dies = {"kill_at": 6, "slow_s": 0.4}  # at its seventh batch, of nine; each batch is a part
        prediction = fleet_bench.announce(fleet_bench.prediction(job, metadata=dies))
        assert eventually(lambda: prediction in fleet.page(fleet_bench.db).data[0].jobs)
        assert fleet_bench.reaches(prediction, 4 * 256)
        os.kill(first.pid, number)
        assert eventually(lambda: fleet_bench.outcomes(prediction) == [outcome])
        with fleet_bench.worker():
            assert eventually(lambda: fleet_bench.status(prediction) == "succeeded", 30)
    assert fleet_bench.outcomes(prediction) == [outcome, "succeeded"]
    assert sha256(fleet_bench, prediction) == sha256(fleet_bench, undisturbed)


def test_a_worker_that_comes_back_after_its_lease_publishes_nothing(bench, model):
    prediction = bench.prediction(model, metadata=SLOW)
    claim = jobs.claim(bench.db, prediction, worker="wrk_lost", host="here", lease_s=0.01)
    assert claim is not None
    time.sleep(0.05)
    dispatch.expire_leases(bench.db)
    run(bench, prediction)
    found = FinishedPrediction("0" * 64, 1, {}, {})
    assert not predictions.finish(bench.db, prediction, claim.fence, found)
    assert bench.outcomes(prediction) == ["lost", "succeeded"]
    assert sha256(bench, prediction) != found.sha256


def test_a_poison_prediction_gets_exactly_its_attempts_and_keeps_what_it_has(bench, model):
    poison = bench.prediction(model, metadata={"kill_at": 1, "slow_s": 0.4}, max_attempts=2)
    with bench.supervisor() as supervisor:
        for _ in range(4):
            supervisor.run(poison)
            time.sleep(bench.settings.backoff_s * 4)
    failed = bench.get(poison)
    assert (failed.status, failed.error_code) == ("failed", "trainer_died")
    assert bench.outcomes(poison) == ["failed"] * 2
    with pytest.raises(Conflict, match="failed: The trainer process"):
        bench.result(poison)


def test_a_running_prediction_is_cancelled_and_a_retry_goes_on_from_its_parts(bench, model):
    undisturbed = bench.prediction(model)
    prediction = bench.prediction(model, metadata={"kill_at": 7, "slow_s": 0.4})
    with bench.supervisor() as supervisor, bench.running(supervisor, prediction) as thread:
        assert bench.reaches(prediction, 2 * 256)
        jobs.cancel(bench.db, prediction, "prediction")
        thread.join(10)
        assert bench.outcomes(prediction) == ["cancelled"]
        assert job_queries.attempts(bench.db, prediction)[0].reason == "cancelled on request"
        again = jobs.retry(bench.db, prediction, "prediction")
        assert again.resumed_from == prediction
        supervisor.run(again.id)
        supervisor.run(undisturbed)
    assert bench.outcomes(again.id) == ["succeeded"]
    assert sha256(bench, again.id) == sha256(bench, undisturbed)


def test_a_retry_outlives_the_prediction_that_it_goes_on_from(bench, model):
    prediction = bench.prediction(model, metadata=SLOW)
    with bench.supervisor() as supervisor, bench.running(supervisor, prediction) as thread:
        assert bench.reaches(prediction, 512)
        jobs.cancel(bench.db, prediction, "prediction")
        thread.join(10)
    again = jobs.retry(bench.db, prediction, "prediction").id
    with bench.supervisor() as supervisor, bench.running(supervisor, again):
        assert bench.reaches(again, 3 * 256)
        predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, prediction)
    assert bench.status(again) == "succeeded"
    third = bench.prediction(model, metadata=SLOW)
    jobs.cancel(bench.db, third, "prediction")
    orphan = jobs.retry(bench.db, third, "prediction").id
    predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, third)
    run(bench, orphan)
    assert sha256(bench, orphan) == sha256(bench, again)


def test_a_queued_prediction_is_cancelled_and_never_runs(bench, model):
    prediction = bench.prediction(model)
    jobs.cancel(bench.db, prediction, "prediction")
    run(bench, prediction)
    assert (bench.status(prediction), bench.outcomes(prediction)) == ("cancelled", [])


def test_a_damaged_part_is_made_again(bench, model):
    undisturbed = bench.prediction(model)
    prediction = bench.prediction(model, metadata={"kill_at": 6, "kill_attempts": 1, **SLOW})
    with bench.supervisor() as supervisor:
        supervisor.run(prediction)
        (folder,) = checkpoints.attempts(bench.settings.checkpoints_dir, prediction)
        newest = max(folder.glob("*.parquet"))
        newest.write_bytes(b"rotten" + newest.read_bytes()[6:])
        time.sleep(bench.settings.backoff_s + 0.05)
        supervisor.run(prediction)
        supervisor.run(undisturbed)
    assert sha256(bench, prediction) == sha256(bench, undisturbed)


def test_a_model_deleted_meanwhile_is_named(bench, model):
    prediction = bench.prediction(model)
    registry.delete_version(bench.db, bench.store, "digits-linear", 1)
    run(bench, prediction)
    failed = bench.get(prediction)
    assert (failed.status, failed.error_code) == ("failed", "model_deleted")
    assert "digits-linear@1 was deleted" in failed.error_message


def test_damaged_weights_are_not_used(bench, model):
    prediction = bench.prediction(model)
    path = bench.store.path(registry.resolve(bench.db, model).sha256)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    run(bench, prediction)
    failed = bench.get(prediction)
    assert (failed.status, failed.error_code) == ("failed", "corrupt_artifact")
    assert "damaged" in failed.error_message


def test_lost_weights_are_named(bench, model):
    prediction = bench.prediction(model)
    bench.store.delete(registry.resolve(bench.db, model).sha256)
    run(bench, prediction)
    assert bench.get(prediction).error_message == "The weights of digits-linear@1 are lost."


def test_a_moved_alias_changes_nothing(bench, model):
    registry.set_alias(bench.db, "digits-linear", "best", 1)
    prediction = bench.prediction("digits-linear@best")
    other = bench.job(training={"seed": 5})
    run(bench, other)
    registry.set_alias(bench.db, "digits-linear", "best", 2)
    undisturbed = bench.prediction("digits-linear@1")
    run(bench, prediction, undisturbed)
    assert bench.get(prediction).model_version == 1
    assert sha256(bench, prediction) == sha256(bench, undisturbed)


def test_a_built_in_dataset_that_nobody_has_prepared_is_prepared(bench, model, new_bench, tmp_path):
    with bench.db.session() as session:
        session.execute(update(DatasetRow).values(sha256=None))
    prediction = bench.prediction(model)
    assert bench.get(prediction).dataset_sha256 is None
    run(bench, prediction)
    assert bench.status(prediction) == "succeeded"
    assert bench.get(prediction).dataset_sha256 == datasets.get(bench.db, "digits").sha256 is not None


def test_a_deleted_predictions_file_goes_unless_another_has_the_same(bench, model):
    first, second = bench.prediction(model), bench.prediction(model)
    run(bench, first, second)
    file = bench.result(first)
    age(file)
    predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, first)
    with pytest.raises(NotFound):
        bench.get(first)
    assert file.exists()
    predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, second)
    assert not file.exists()


def test_a_result_survives_the_hourly_sweep_as_long_as_its_prediction(bench, model):
    prediction = bench.prediction(model)
    run(bench, prediction)
    file = bench.result(prediction)
    age(file)
    references.sweep(bench.db, bench.store)
    assert file.exists()


def test_training_and_predictions_do_not_see_each_other(bench, model):
    prediction = bench.prediction(model)
    assert [job.id for job in job_queries.page(bench.db).data] == [model]
    assert [job.id for job in job_queries.page(bench.db, kind="prediction").data] == [prediction]
    assert job_queries.counts(bench.db) == {("torch", "succeeded"): 1}
    assert job_queries.counts(bench.db, "prediction") == {("torch", "queued"): 1}
    assert dispatch.claimable(bench.db) == {"torch": 1}
    with pytest.raises(NotFound, match="no job 'pred_"):
        job_queries.get(bench.db, prediction, "training")
    with pytest.raises(NotFound, match="no prediction 'job_"):
        jobs.cancel(bench.db, model, "prediction")
    with pytest.raises(NotFound, match="no prediction 'job_"):
        predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, model)
    with pytest.raises(NotFound):
        jobs.cancel(bench.db, prediction)
    assert bench.status(prediction) == "queued"


def test_the_parts_go_though_the_answer_to_the_finish_was_lost(bench, model, tmp_path):
    claim = jobs.claim(bench.db, bench.prediction(model), worker="wrk_1", host="here", lease_s=60)
    folder = checkpoints.folder(bench.settings.checkpoints_dir, claim.job.id, claim.fence)
    folder.mkdir(parents=True)
    result = tmp_path / "result"
    result.write_bytes(b"rows")
    known = bench.store.put(result)
    finished = FinishedPrediction(known.sha256, known.size_bytes, {}, {})
    assert predictions.finish(bench.db, claim.job.id, claim.fence, finished)
    ledger = Ledger(bench.db, bench.settings, claim.job.id, claim.fence)
    settlement = Settlement(bench.db, bench.store, bench.settings, claim, ledger, Event())
    scored = messages.Scored(file=str(result), metrics={}, timing={})
    settlement.settle(scored, datasets.get(bench.db, "digits"))
    ledger.close()
    assert not folder.exists()
    assert sha256(bench, claim.job.id) == known.sha256


def test_a_prediction_that_has_not_ended_is_not_deleted(bench, model):
    prediction = bench.prediction(model)
    with pytest.raises(Conflict, match="queued"):
        predictions.delete(bench.db, bench.store, bench.settings.checkpoints_dir, prediction)


def age(path):
    """Let a stored file look old enough to be deleted."""
    path.chmod(0o644)
    os.utime(path, (1, 1))
