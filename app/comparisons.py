"""Comparisons as they are asked for and shown: settled before they begin, and put together from what is known."""

import asyncio
from dataclasses import dataclass

from anyio.to_thread import run_sync

from app.conclusions import conclusions
from app.prediction.choice import EngineChoice
from app.schemas.comparisons import Comparison, Curve, JobCount
from app.schemas.engines import Engines
from app.submission import settled as settled_job
from models.errors import NotFound, TandemError
from models.job import ComparisonSpec, Recipe
from workers import comparison_figures, comparisons, job_queries, registry
from workers.comparison_figures import Figures
from workers.comparisons import Comparison as Record
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.registry import ModelVersion

POINTS = 200
"""Of a curve."""
MEASURED_WITHIN_S = 20.0
"""How long an answer waits for the engines to be measured; the next one has what this one began."""


@dataclass(frozen=True)
class Known:
    """A comparison, how far it is, and its figures."""

    record: Record
    progress: JobCount
    figures: Figures


def settled(db: Database, spec: ComparisonSpec) -> tuple[ComparisonSpec, DatasetRecord]:
    """The comparison with its name, its seeds and every default of its training; and its dataset.

    Raises InvalidInput, naming the field, where the dataset, the network, the training and the start do not fit.
    """
    seeds = spec.seeds or [spec.training.seed]
    job, dataset = settled_job(db, spec.job(spec.frameworks[0], seeds[0]))
    same = {name: getattr(job, name) for name in Recipe.model_fields}
    return ComparisonSpec(**same, frameworks=spec.frameworks, seeds=seeds), dataset


def known(db: Database, record: Record) -> Known:
    steps = comparisons.steps(record.settled_spec)
    jobs = comparisons.jobs_of(db, record.id)
    figures = comparison_figures.of(db, steps, jobs, of_regression=record.of_regression)
    progress = JobCount(jobs=sum(job.finished for job in jobs), total_jobs=len(steps))
    return Known(record, progress, figures)


def listed(found: Known) -> Comparison:
    """As a list shows it: nothing is measured for it."""
    sentences = _conclusions(found, None)
    return Comparison.of(
        found.record, found.progress, found.figures, curves={}, serving=None, conclusion=sentences
    )


async def whole(db: Database, choice: EngineChoice, found: Known) -> Comparison:
    """With its curves, and how fast each engine predicts, measured now if it is not known yet."""
    curves = await run_sync(_curves, db, found.figures)
    serving = None
    if found.record.status == "succeeded":
        serving = await _serving(db, choice, found.figures)
    sentences = _conclusions(found, serving)
    return Comparison.of(
        found.record, found.progress, found.figures, curves=curves, serving=serving, conclusion=sentences
    )


def _conclusions(found: Known, serving: Engines | None) -> tuple[str, ...]:
    """None before its end: what is not whole yet would be compared."""
    return () if found.record.status == "running" else conclusions(found.figures, serving)


def _curves(db: Database, figures: Figures) -> dict[str, Curve]:
    jobs = [run.job.id for run in figures.runs if run.job is not None]
    found = {job_id: job_queries.metrics(db, job_id, POINTS) for job_id in jobs}
    return {job_id: curve for job_id, curve in found.items() if curve["step"]}


async def _serving(db: Database, choice: EngineChoice, figures: Figures) -> Engines | None:
    try:
        version = await run_sync(_first_version, db, figures)
        verdict = await asyncio.wait_for(choice.verdict(version), MEASURED_WITHIN_S)
    except (
        TandemError,
        TimeoutError,
    ):  # the model may be deleted; and what takes longer is there the next time
        return None
    return Engines.of(version, verdict)


def _first_version(db: Database, figures: Figures) -> ModelVersion:
    job = figures.runs[0].job
    if job is None or job.model_name is None or job.model_version is None:
        raise NotFound("its first training has made no model")
    return registry.version(db, job.model_name, job.model_version)
