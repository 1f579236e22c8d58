"""What a comparison measures, on both databases: figures of its jobs, and how far their models agree."""

import numpy as np
import pytest

from tests.workers.comparisons.advancing import advance
from workers import agreement, comparison_figures, comparisons, jobs
from workers.comparison_figures import Figure


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
    advance(db)
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
