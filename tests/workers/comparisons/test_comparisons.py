"""Comparisons, on both databases: which job comes next, and how they end. The tests do what workers would."""

from datetime import UTC, datetime

import pytest

from models.data.builtin import BUILTIN
from models.errors import Conflict, InvalidInput, NotFound
from models.job import ComparisonSpec
from tests.workers.comparisons.advancing import advance
from workers import comparisons, datasets, dispatch, job_queries, jobs, registry
from workers.comparisons import Running, Step
from workers.database import Database

ORDER = [("torch", 0), ("jax", 0), ("jax", 1), ("torch", 1)]


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
    assert advance(db) == [Running(comparison.id, False)]
    claim = jobs.claim(db, first.id, worker="wrk_1", host="here", lease_s=60)
    advance(db)
    assert made(comparison) == [job_queries.get(db, first.id)]
    jobs.release(db, first.id, claim.fence, reason="stopped")
    end(first)
    for _ in range(3):
        advance(db)
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
    assert advance(db) == []


def test_many_processes_make_the_next_job_once(db, begun, made, end, at_once):
    comparison = begun()
    end(made(comparison)[0])
    own = [Database(db.url) for _ in range(4)]
    answers = at_once(*(lambda one=one: advance(one) for one in own))
    assert all(answer == [Running(comparison.id, False)] for answer in answers), answers
    assert len(made(comparison)) == 2
    for one in own:
        one.close()


def test_a_comparison_fails_with_its_job(db, begun, made, end):
    comparison = begun()
    end(made(comparison)[0])
    advance(db)
    job = made(comparison)[-1]
    _fail(db, job)
    advance(db)
    ended = comparisons.get(db, comparison.id)
    assert (ended.status, ended.error_code) == ("failed", "diverged")
    assert ended.error_message == f"Its job {job.id} in jax failed: The loss is nan."
    assert len(made(comparison)) == 2
    assert advance(db) == []


def test_a_comparison_is_cancelled_with_its_job_whichever_was_asked_for(db, begun, made):
    first, second = begun(), begun()
    assert comparisons.cancel(db, first.id).status == "cancelled"
    assert comparisons.cancel(db, first.id).status == "cancelled"
    jobs.cancel(db, made(second)[0].id)
    advance(db)
    assert comparisons.get(db, second.id).status == "cancelled"
    for one in (first, second):
        assert [job.status for job in made(one)] == ["cancelled"]


def test_a_running_job_is_asked_to_end_with_its_comparison(db, begun, made):
    comparison = begun()
    claim = jobs.claim(db, made(comparison)[0].id, worker="wrk_1", host="here", lease_s=60)
    comparisons.cancel(db, comparison.id)
    assert jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=60).cancel_requested
    assert jobs.cancelled(db, claim.job.id, claim.fence)
    advance(db)
    assert len(made(comparison)) == 1


def test_the_sweep_cancels_the_job_that_a_dead_process_did_not_come_to(db, begun, made, monkeypatch):
    comparison = begun()
    with monkeypatch.context() as patch:
        patch.setattr(comparisons, "_cancel_jobs", lambda db: None)  # killed between the two
        comparisons.cancel(db, comparison.id)
    assert [job.status for job in made(comparison)] == ["queued"]
    advance(db)
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
    advance(db)
    end(made(comparison)[-1])
    registry.delete_version(db, store, "compared", 1)
    advance(db)
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


def test_times_are_of_the_databases_clock(db, begun):
    before = datetime.now(UTC)
    assert abs((begun().created_at - before).total_seconds()) < 30
