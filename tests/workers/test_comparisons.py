"""Comparisons, on both databases: which job comes next, and how they end. The tests do what workers would."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.data.builtin import BUILTIN
from models.errors import Conflict, InvalidInput, NotFound
from models.job import ComparisonSpec
from workers import (
    agreement,
    comparison_figures,
    comparisons,
    datasets,
    dispatch,
    job_queries,
    jobs,
    predictions,
    registry,
)
from workers.comparison_figures import Figure
from workers.comparisons import Running, Step
from workers.database import Database
from workers.reports import FinishedPrediction, Metrics

ORDER = [("torch", 0), ("jax", 0), ("jax", 1), ("torch", 1)]


@pytest.fixture
def begun(db):
    """Begin a comparison of two seeds; keyword arguments replace its fields."""

    def make(**fields):
        body = {
            "dataset": "digits",
            "model": {"architecture": "mlp"},
            "training": {"epochs": 2, "seed": 0},
            "seeds": [0, 1],
            "name": "compared",
            **fields,
        }
        spec = ComparisonSpec.model_validate(body, strict=False)
        return comparisons.create(db, spec, datasets.get(db, "digits"), max_attempts=2)[0]

    return make


@pytest.fixture
def made(db):
    """The jobs that a comparison has made so far."""
    return lambda comparison: comparisons.jobs_of(db, comparison.id)


@pytest.fixture
def end(db, store, model):
    """Do a job's work: a training reports these losses and scores, a prediction these labels and logits."""

    def work(job, losses=(0.5,), scores=(0.9,), labels=("a",), logits=((1.0, 2.0),), host="here", **changes):
        claim = jobs.claim(db, job.id, worker="wrk_1", host=host, lease_s=60)
        if job.kind == "prediction":
            with store.scratch() as path:
                table = {"label": list(labels), "logits": [row and list(row) for row in logits]}
                parquet.write_table(pa.table(table), path)
                artifact = store.adopt(path)
            found = FinishedPrediction(artifact.sha256, artifact.size_bytes, {"accuracy": 0.9}, {})
            assert predictions.finish(db, job.id, claim.fence, found)
            return
        reports = [Metrics(step, 1, "train", {"loss": loss}) for step, loss in enumerate(losses, 1)]
        reports += [
            Metrics(step, 1, "validation", {"accuracy": score}) for step, score in enumerate(scores, 1)
        ]
        jobs.record(db, job.id, claim.fence, phase="training", device="cpu")
        jobs.record(db, job.id, claim.fence, reports=reports)
        known = {
            "timing": {"samples_per_s": 100.0, "train_s": 7.0, "compile_s": 0.5},
            "peak_memory_bytes": 5_000_000,
        }
        made = model(content=job.id.encode(), **known | changes)
        assert jobs.finish(db, job.id, claim.fence, made)

    return work


@pytest.fixture
def finished(db, begun, made, end):
    """A comparison whose jobs have all been done, as `work` says of each."""

    def make(work=lambda job: {}, **fields):
        comparison = begun(**fields)
        while not _advance(db)[0].had_all_jobs:
            job = made(comparison)[-1]
            if not job.finished:
                end(job, **work(job))
        return comparison

    return make


def _advance(db):
    return comparisons.advance(db, max_attempts=2)


def _fail(db, job):
    claim = jobs.claim(db, job.id, worker="wrk_1", host="here", lease_s=60)
    told = {"code": "diverged", "message": "The loss is nan."}
    jobs.attempt_failed(db, job.id, claim.fence, **told, retryable=False, backoff_s=0)


def _upload(db, store):
    """A copy of the digits under a name of its own."""
    return datasets.add(db, store, "mine", BUILTIN["digits"].load(None))


def test_frameworks_take_turns_at_being_first_and_predictions_follow():
    spec = ComparisonSpec.model_validate(
        {"dataset": "digits", "model": {"architecture": "mlp"}, "training": {"epochs": 1}, "seeds": [0, 1]},
        strict=False,
    )
    trainings = [Step("training", *one) for one in ORDER]
    assert comparisons.steps(spec) == (*trainings, *(Step("prediction", *one) for one in ORDER))


def test_a_comparison_begins_with_one_job_which_waits_for_a_worker(db, begun, made):
    comparison = begun(metadata={"team": "vision"})
    assert comparison.id.startswith("cmp_")
    assert (comparison.status, comparison.name, comparison.dataset_name) == ("running", "compared", "digits")
    (job,) = made(comparison)
    assert (job.framework, job.spec["training"]["seed"], job.name) == ("torch", 0, "compared")
    assert (job.comparison, job.comparison_step, job.metadata) == (comparison.id, 0, {"team": "vision"})
    assert dispatch.stale_queued(db, 30) == [(job.id, "torch")]
    assert comparisons.get(db, comparison.id) == comparison


def test_the_next_job_is_made_once_the_one_before_has_ended(db, begun, made, end):
    comparison = begun()
    first = made(comparison)[0]
    assert _advance(db) == [Running(comparison.id, False)]
    claim = jobs.claim(db, first.id, worker="wrk_1", host="here", lease_s=60)
    _advance(db)
    assert made(comparison) == [job_queries.get(db, first.id)]
    jobs.release(db, first.id, claim.fence, reason="stopped")
    end(first)
    for _ in range(3):
        _advance(db)
    assert [job.framework for job in made(comparison)] == ["torch", "jax"]


def test_each_training_is_followed_by_a_prediction_of_its_own_model(db, finished, made):
    comparison = finished()
    found = made(comparison)
    assert [(job.kind, job.framework) for job in found] == [
        (kind, framework) for kind in ("training", "prediction") for framework, _ in ORDER
    ]
    for training, prediction in zip(found[:4], found[4:], strict=True):
        assert (prediction.model_name, prediction.model_version) == (
            training.model_name,
            training.model_version,
        )
        assert prediction.spec["split"] == "test"
        assert prediction.spec["return"] == ["labels", "logits"]
    assert comparisons.get(db, comparison.id).status == "running"
    assert comparisons.finish(db, comparison.id, [{"seed": 0}])
    ended = comparisons.get(db, comparison.id)
    assert (ended.status, ended.agreement) == ("succeeded", [{"seed": 0}])
    assert ended.finished_at > ended.created_at
    assert not comparisons.finish(db, comparison.id, [])
    assert _advance(db) == []


def test_many_processes_make_the_next_job_once(db, begun, made, end, at_once):
    comparison = begun()
    end(made(comparison)[0])
    own = [Database(db.url) for _ in range(4)]
    answers = at_once(*(lambda one=one: _advance(one) for one in own))
    assert all(answer == [Running(comparison.id, False)] for answer in answers), answers
    assert len(made(comparison)) == 2
    for one in own:
        one.close()


def test_a_comparison_fails_with_its_job(db, begun, made, end):
    comparison = begun()
    end(made(comparison)[0])
    _advance(db)
    job = made(comparison)[-1]
    _fail(db, job)
    _advance(db)
    ended = comparisons.get(db, comparison.id)
    assert (ended.status, ended.error_code) == ("failed", "diverged")
    assert ended.error_message == f"Its job {job.id} in jax failed: The loss is nan."
    assert len(made(comparison)) == 2
    assert _advance(db) == []


def test_a_comparison_is_cancelled_with_its_job_whichever_was_asked_for(db, begun, made):
    first, second = begun(), begun()
    assert comparisons.cancel(db, first.id).status == "cancelled"
    assert comparisons.cancel(db, first.id).status == "cancelled"
    jobs.cancel(db, made(second)[0].id)
    _advance(db)
    assert comparisons.get(db, second.id).status == "cancelled"
    for one in (first, second):
        assert [job.status for job in made(one)] == ["cancelled"]


def test_a_running_job_is_asked_to_end_with_its_comparison(db, begun, made):
    comparison = begun()
    claim = jobs.claim(db, made(comparison)[0].id, worker="wrk_1", host="here", lease_s=60)
    comparisons.cancel(db, comparison.id)
    assert jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).cancel_requested
    assert jobs.cancelled(db, claim.job.id, claim.fence)
    _advance(db)
    assert len(made(comparison)) == 1


def test_the_sweep_cancels_the_job_that_a_dead_process_did_not_come_to(db, begun, made, monkeypatch):
    comparison = begun()
    with monkeypatch.context() as patch:
        patch.setattr(comparisons, "_cancel_jobs", lambda db: None)  # killed between the two
        comparisons.cancel(db, comparison.id)
    assert [job.status for job in made(comparison)] == ["queued"]
    _advance(db)
    assert [job.status for job in made(comparison)] == ["cancelled"]


def test_what_has_ended_cannot_be_cancelled_and_what_runs_cannot_be_deleted(db, begun, finished):
    with pytest.raises(Conflict, match="cancel it first"):
        comparisons.delete(db, begun().id)
    comparisons.cancel(db, comparisons.page(db).data[0].id)
    ended = finished(name="other")
    comparisons.finish(db, ended.id, [])
    with pytest.raises(Conflict, match="succeeded already"):
        comparisons.cancel(db, ended.id)


def test_a_deleted_comparison_leaves_its_jobs(db, begun, made):
    comparison = begun()
    comparisons.cancel(db, comparison.id)
    (job,) = made(comparison)
    comparisons.delete(db, comparison.id)
    with pytest.raises(NotFound, match="GET /comparisons"):
        comparisons.get(db, comparison.id)
    assert job_queries.get(db, job.id).comparison is None
    with pytest.raises(NotFound):
        comparisons.delete(db, comparison.id)


def test_a_dataset_is_kept_between_two_jobs(db, store, begun, made, end):
    mine = _upload(db, store)
    comparison = comparisons.create(
        db,
        ComparisonSpec.model_validate({**begun().spec, "dataset": "mine"}, strict=False),
        mine,
        max_attempts=2,
    )[0]
    end(made(comparison)[0])
    with pytest.raises(Conflict, match=f"comparison {comparison.id} needs"):
        datasets.delete(db, store, "mine")
    comparisons.cancel(db, comparison.id)
    datasets.delete(db, store, "mine")


def test_a_comparison_whose_model_was_deleted_fails(db, store, begun, made, end):
    comparison = begun(seeds=[0])
    end(made(comparison)[-1])
    _advance(db)
    end(made(comparison)[-1])
    registry.delete_version(db, store, "compared", 1)
    _advance(db)
    ended = comparisons.get(db, comparison.id)
    assert (ended.status, ended.error_code) == ("failed", "not_found")
    assert "compared" in ended.error_message


def test_a_list_is_filtered_and_paged(db, begun):
    made = [begun() for _ in range(3)]
    comparisons.cancel(db, made[1].id)
    assert [one.id for one in comparisons.page(db, limit=2).data] == [made[2].id, made[1].id]
    assert [one.id for one in comparisons.page(db, after=made[1].id).data] == [made[0].id]
    assert [one.id for one in comparisons.page(db, status="cancelled").data] == [made[1].id]
    assert len(comparisons.page(db, dataset="digits").data) == 3
    assert comparisons.page(db, dataset="other").data == ()
    comparisons.delete(db, made[1].id)
    assert [one.id for one in comparisons.page(db, after=made[1].id).data] == [made[0].id]
    with pytest.raises(InvalidInput, match="last_id"):
        comparisons.page(db, after="job_1")


def test_figures_are_means_over_the_seeds_with_their_spread(db, finished):
    rates = {("torch", 0): 100.0, ("jax", 0): 300.0, ("jax", 1): 500.0, ("torch", 1): 100.0}

    def work(job):
        if job.kind == "prediction":
            return {}
        rate = rates[job.framework, job.spec["training"]["seed"]]
        score = 0.8 if job.framework == "torch" else 0.9
        return {
            "scores": (0.1, score),
            "timing": {"samples_per_s": rate, "train_s": 1.0},
            "metrics": {"test_accuracy": score},
        }

    comparison = finished(work)
    figures = comparison_figures.of(
        db, comparisons.steps(comparison.settled_spec), comparisons.jobs_of(db, comparison.id)
    )
    assert (figures.metric, figures.target) == ("test_accuracy", 0.8)
    assert figures.frameworks["torch"]["samples_per_s"] == Figure(100.0, 0.0)
    jax = figures.frameworks["jax"]
    assert jax["samples_per_s"].mean == 400.0
    assert jax["samples_per_s"].spread == pytest.approx(np.std([300, 500], ddof=1))
    assert jax["score"].mean == pytest.approx(0.9)
    assert jax["peak_memory_bytes"] == Figure(5_000_000.0, 0.0)
    assert jax["compile_s"] is None
    for run in figures.runs:
        assert 0 <= run.figures["time_to_first_step_s"] <= run.figures["time_to_target_s"] < 60
        assert run.beside == 0


def test_figures_wait_for_what_is_not_done(db, begun, made, end):
    comparison = begun()
    steps = comparisons.steps(comparison.settled_spec)
    waiting = comparison_figures.of(db, steps, made(comparison))
    assert (waiting.target, waiting.frameworks["jax"]["score"]) == (None, None)
    assert [run.job is None for run in waiting.runs] == [False, True, True, True]
    end(made(comparison)[0])
    one = comparison_figures.of(db, steps, made(comparison))
    assert one.frameworks["torch"]["score"] == Figure(0.9, None)
    assert one.target is None


def test_a_training_that_was_not_alone_on_its_machine_says_so(db, begun, made, end, queued):
    comparison = begun(seeds=[0])
    busy = [
        jobs.claim(db, queued().id, worker=worker, host=host, lease_s=60)
        for worker, host in (("wrk_2", "here"), ("wrk_3", "elsewhere"))
    ]
    end(made(comparison)[0])
    for one in busy:
        jobs.release(db, one.job.id, one.fence, reason="stopped")
    _advance(db)
    end(made(comparison)[1])
    figures = comparison_figures.of(db, comparisons.steps(comparison.settled_spec), made(comparison))
    assert [run.beside for run in figures.runs] == [1, 0]


def test_agreement_is_the_largest_difference_of_losses_and_outputs(db, store, finished, made):
    def work(job):
        if job.kind == "training":
            return {"losses": (1.0, 0.5, 0.25) if job.framework == "torch" else (1.001, 0.75, 0.25)}
        if job.framework == "torch":
            return {"labels": ("a", "b", "a"), "logits": ((1.0, 2.0), (3.0, 1.0), (0.0, 0.0))}
        return {"labels": ("a", "b", "b"), "logits": ((1.0, 2.5), (3.0, 1.0), (0.0, 0.25))}

    comparison = finished(work)
    first, second = agreement.of(db, store, made(comparison))
    assert (first["seed"], first["frameworks"]) == (0, ["torch", "jax"])
    assert (second["seed"], second["frameworks"]) == (1, ["torch", "jax"])
    for found in (first, second):
        assert found["loss_difference"] == {"first": pytest.approx(0.001), "largest": 0.25, "step": 2}
        assert found["logit_difference"] == 0.5
        assert found["equal_predictions"] == pytest.approx(2 / 3)


def test_rows_without_an_answer_are_left_out_of_the_outputs_and_are_not_equal(db, store, finished, made):
    def work(job):
        if job.kind == "training" or job.framework == "torch":
            return {} if job.kind == "training" else {"labels": ("a", None), "logits": ((1.0, 2.0), None)}
        return {"labels": ("a", None), "logits": ((1.0, 2.25), None)}

    comparison = finished(work, seeds=[0])
    (found,) = agreement.of(db, store, made(comparison))
    assert (found["logit_difference"], found["equal_predictions"]) == (0.25, 0.5)


def test_a_result_that_is_gone_leaves_the_rest_of_the_agreement(db, store, finished, made):
    comparison = finished(seeds=[0])
    lost = next(job for job in made(comparison) if job.kind == "prediction" and job.framework == "jax")
    path = store.path(lost.artifact_sha256)
    path.parent.chmod(0o755)
    path.unlink()
    (found,) = agreement.of(db, store, made(comparison))
    assert (found["logit_difference"], found["equal_predictions"]) == (None, None)
    assert found["loss_difference"]["largest"] == 0.0


def test_times_are_of_the_databases_clock(db, begun):
    before = datetime.now(UTC)
    assert abs((begun().created_at - before).total_seconds()) < 30
