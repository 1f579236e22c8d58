"""Comparisons, on both databases, and what workers do of them."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from models.job import ComparisonSpec
from tests.workers.comparisons.advancing import advance
from workers import comparisons, datasets, jobs, predictions
from workers.reports import FinishedPrediction, Metrics


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
        while not advance(db)[0].had_all_jobs:
            job = made(comparison)[-1]
            if not job.finished:
                end(job, **work(job))
        return comparison

    return make
