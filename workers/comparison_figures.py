"""The figures of a comparison: of each training, and of each framework over its trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models.framework import Framework
from workers.clock import moment
from workers.comparisons import Step
from workers.database import Database
from workers.job_records import Job
from workers.tables import AttemptRow, EventRow, JobRow

ACCURACY, ERROR = "accuracy", "rmse"
FIGURES = (
    "score",
    "time_to_first_step_s",
    "compile_s",
    "samples_per_s",
    "train_s",
    "time_to_target_s",
    "peak_memory_bytes",
)


@dataclass(frozen=True)
class Run:
    """One training. `figures`: FIGURES by name, None where it is not known (yet). `beside`: other jobs that ran on its
    machine meanwhile, which make its times worth less."""

    framework: Framework
    seed: int
    job: Job | None
    figures: Mapping[str, float | None]
    beside: int


@dataclass(frozen=True)
class Figure:
    """Over the seeds: the mean, and the sample standard deviation where there are two or more."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class Figures:
    """metric: what `score` is, of the test split. target: the validation score that every training reached, which
    `time_to_target_s` is about."""

    metric: str
    target: float | None
    runs: tuple[Run, ...]
    frameworks: Mapping[Framework, Mapping[str, Figure | None]]


@dataclass(frozen=True)
class _Curve:
    """When a job began to train, and its validation scores, each with when it was told."""

    began: datetime | None
    scores: tuple[tuple[datetime, float], ...]


def of(db: Database, steps: Sequence[Step], jobs: Sequence[Job], *, of_regression: bool = False) -> Figures:
    """`steps` of the comparison, and its jobs so far, in their order."""
    made = {job.comparison_step: job for job in jobs}
    trainings = [(step, made.get(number)) for number, step in enumerate(steps) if step.kind == "training"]
    metric = ERROR if of_regression else ACCURACY
    with db.reading() as session:
        curves = {job.id: _curve(session, job, metric) for _, job in trainings if job is not None}
        beside = {job.id: _beside(session, job) for _, job in trainings if job is not None}
    target = _target(list(curves.values()), len(trainings), of_regression)
    runs = tuple(
        Run(
            step.framework,
            step.seed,
            job,
            dict.fromkeys(FIGURES)
            if job is None
            else _figures(job, curves[job.id], metric, target, of_regression),
            0 if job is None else beside[job.id],
        )
        for step, job in trainings
    )
    names = dict.fromkeys(run.framework for run in runs)
    return Figures(
        f"test_{metric}",
        target,
        runs,
        {name: _summary([run for run in runs if run.framework == name]) for name in names},
    )


def _figures(
    job: Job, curve: _Curve, metric: str, target: float | None, of_regression: bool
) -> dict[str, float | None]:
    if job.status != "succeeded" or job.started_at is None:
        return dict.fromkeys(FIGURES)
    reached = next(
        (
            at
            for at, score in curve.scores
            if target is not None and (score <= target if of_regression else score >= target)
        ),
        None,
    )
    return {
        "score": job.metrics.get(f"test_{metric}"),
        "time_to_first_step_s": _seconds(job.started_at, curve.began),
        **{name: job.timing.get(name) for name in ("compile_s", "samples_per_s", "train_s")},
        "time_to_target_s": _seconds(job.started_at, reached),
        "peak_memory_bytes": job.peak_memory_bytes,
    }


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()


def _curve(session: Session, job: Job, metric: str) -> _Curve:
    query = (
        select(EventRow)
        .where(EventRow.job_id == job.id, EventRow.type.in_(["status", "metric"]))
        .order_by(EventRow.seq)
    )
    events = session.scalars(query).all()
    began = [event for event in events if event.data.get("phase") == "training"]
    scored = [(event, event.data.get(f"validation_{metric}")) for event in events]
    return _Curve(
        moment(began[0].created_at) if began else None,
        tuple((moment(event.created_at), score) for event, score in scored if score is not None),
    )


def _target(curves: Sequence[_Curve], wanted: int, of_regression: bool) -> float | None:
    """What the worst of all trainings reached at its best; None until all have scores."""
    if len(curves) < wanted or not all(curve.scores for curve in curves):
        return None
    scores = [[score for _, score in curve.scores] for curve in curves]
    return max(map(min, scores)) if of_regression else min(map(max, scores))


def _beside(session: Session, job: Job) -> int:
    """Jobs of which an attempt ran on the same machine while this one did."""
    own = session.scalars(select(AttemptRow).where(AttemptRow.job_id == job.id)).all()
    found: set[str] = set()
    for attempt in own:
        until: Any = func.coalesce(attempt.ended_at, AttemptRow.started_at)
        query = (
            select(AttemptRow.job_id)
            .join(JobRow, JobRow.id == AttemptRow.job_id)
            .where(
                AttemptRow.job_id != job.id,
                AttemptRow.host == attempt.host,
                AttemptRow.started_at <= until,
                or_(AttemptRow.ended_at.is_(None), AttemptRow.ended_at > attempt.started_at),
            )
        )
        found.update(session.scalars(query))
    return len(found)


def _summary(runs: Sequence[Run]) -> dict[str, Figure | None]:
    return {name: _figure([run.figures[name] for run in runs]) for name in FIGURES}


def _figure(values: Sequence[float | None]) -> Figure | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Figure(fmean(known), stdev(known) if len(known) > 1 else None)
