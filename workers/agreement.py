"""How far apart the frameworks of a comparison are: their losses, step by step, and what their models say of the test
split."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from models.errors import CorruptArtifact, NotFound
from workers import job_queries, predictions
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.job_records import Job

ROWS = 4096
"""Rows of the results that are compared together."""


def of(db: Database, store: ArtifactStore, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """For each seed, each framework against the comparison's first. What cannot be told, because a result is gone, is
    null. `jobs`: all of the comparison.

    seed, frameworks: the pair.
    loss_difference: the `first`, of steps that both report, and the `largest`, at which `step`.
    logit_difference: the largest of any row of the test split; in a regression of its value.
    equal_predictions: the share of rows with the same label; null in a regression.
    """
    trainings = [job for job in jobs if job.kind == "training"]
    results = {(job.model_name, job.model_version): job for job in jobs if job.kind == "prediction"}
    found = []
    for seed in dict.fromkeys(_seed(job) for job in trainings):
        first, *others = sorted(
            (job for job in trainings if _seed(job) == seed), key=lambda job: _order(job, trainings)
        )
        for other in others:
            pair = [results.get((one.model_name, one.model_version)) for one in (first, other)]
            found.append(
                {
                    "seed": seed,
                    "frameworks": [first.framework, other.framework],
                    "loss_difference": _loss_difference(db, first, other),
                    **_differences(store, pair),
                }
            )
    return found


def _seed(job: Job) -> int:
    seed: int = job.spec["training"]["seed"]
    return seed


def _order(job: Job, trainings: Sequence[Job]) -> int:
    """By the first seed's order: the frameworks take turns at being first afterwards."""
    return [one.framework for one in trainings].index(job.framework)


def _loss_difference(db: Database, one: Job, other: Job) -> dict[str, Any] | None:
    curves = [job_queries.metrics(db, job.id) for job in (one, other)]
    losses = [
        {
            step: loss
            for step, loss in zip(curve["step"], curve.get("train_loss", ()), strict=False)
            if loss is not None
        }
        for curve in curves
    ]
    apart = {step: abs(losses[0][step] - losses[1][step]) for step in losses[0].keys() & losses[1].keys()}
    if not apart:
        return None
    step = max(apart, key=lambda step: (apart[step], -step))
    return {"first": apart[min(apart)], "largest": apart[step], "step": step}


def _differences(store: ArtifactStore, pair: Sequence[Job | None]) -> dict[str, float | None]:
    unknown: dict[str, float | None] = {"logit_difference": None, "equal_predictions": None}
    one, other = pair
    if one is None or other is None:
        return unknown
    try:
        files = [predictions.result(store, job) for job in (one, other)]
    except (CorruptArtifact, NotFound):
        return unknown
    largest, equal, rows = 0.0, 0, 0
    has_labels = False
    for left, right in zip(*map(_batches, files), strict=True):
        largest = max(largest, _largest(left, right))
        rows += len(left)
        if "label" in left.schema.names:
            has_labels = True
            equal += sum(
                one == other is not None
                for one, other in zip(left["label"].to_pylist(), right["label"].to_pylist(), strict=True)
            )
    if not rows:
        return unknown
    shown = largest if np.isfinite(largest) else None
    return {"logit_difference": shown, "equal_predictions": equal / rows if has_labels else None}


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(file) as opened:
        names = {"value", "label", "logits"} & set(opened.schema_arrow.names)
        wanted = sorted(names - {"logits"} if "value" in names else names)
        yield from opened.iter_batches(batch_size=ROWS, columns=wanted)


def _largest(left: pa.RecordBatch, right: pa.RecordBatch) -> float:
    """The largest difference of a number; rows that either did not answer are left out."""
    name = "value" if "value" in left.schema.names else "logits"
    columns = [batch[name] for batch in (left, right)]
    missing = [column.is_null().to_numpy(zero_copy_only=False) for column in columns]
    answered = pa.array(~np.logical_or(*missing))
    one, other = (_numbers(column.filter(answered)) for column in columns)
    return float(np.abs(one - other).max()) if one.size else 0.0


def _numbers(column: pa.Array) -> np.ndarray:
    """All of a column without gaps, float64; lists one after another."""
    flat = column.flatten() if pa.types.is_list(column.type) else column
    numbers: np.ndarray = flat.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers
