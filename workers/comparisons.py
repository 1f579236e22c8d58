"""Comparisons of frameworks: the same training in each of them, one job after another.

A comparison is a row and the jobs that name it. Each API process's reconciler makes the next job once the one before
has ended (`advance`). Whoever makes it holds the comparison's row, so that it is made once; and whatever ends in
between, the next sweep goes on from what the rows say.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import delete as delete_from
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.errors import Conflict, NotFound
from models.framework import Framework
from models.job import ComparisonSpec
from models.scoring.samples import count
from models.scoring.spec import ScoringSpec
from workers import datasets, job_records, jobs, predictions, registry
from workers.clock import moment, now, optional_moment
from workers.database import Database
from workers.datasets import DatasetRecord
from workers.idempotency import IdempotencyClaim, attach
from workers.identifiers import new_id
from workers.job_records import Job, Kind
from workers.model_records import ModelVersion
from workers.paging import Order, Page, check_cursor, page_of
from workers.tables import ComparisonRow, JobRow

Status = Literal["running", "succeeded", "failed", "cancelled"]
PREFIX = "cmp"


@dataclass(frozen=True)
class Comparison:
    """A comparison at one moment. `agreement`, of those that have succeeded: see `workers.agreement`."""

    id: str
    name: str
    spec: dict[str, Any]
    dataset_id: str
    dataset_name: str
    status: Status
    error_code: str | None
    error_message: str | None
    agreement: list[dict[str, Any]] | None
    of_regression: bool
    created_at: datetime
    finished_at: datetime | None

    @property
    def settled_spec(self) -> ComparisonSpec:
        return ComparisonSpec.model_validate(self.spec, strict=False)


@dataclass(frozen=True)
class Step:
    """One job of a comparison: a training, or the test split's prediction by the model that it made."""

    kind: Kind
    framework: Framework
    seed: int


@dataclass(frozen=True)
class Running:
    """A comparison that has not ended; one that `had_all_jobs` lacks nothing but `finish`."""

    comparison_id: str
    had_all_jobs: bool


def steps(spec: ComparisonSpec) -> tuple[Step, ...]:
    """In their order. `spec` is settled. The frameworks take turns at being first, so that a machine that grows
    slower as it grows warm is unfair to none; predictions follow once nothing is timed any more."""
    assert spec.seeds is not None
    trainings = [
        (framework, seed)
        for turn, seed in enumerate(spec.seeds)
        for framework in (spec.frameworks if turn % 2 == 0 else reversed(spec.frameworks))
    ]
    kinds: tuple[Kind, ...] = ("training", "prediction")
    return tuple(Step(kind, framework, seed) for kind in kinds for framework, seed in trainings)


def create(
    db: Database,
    spec: ComparisonSpec,
    dataset: DatasetRecord,
    *,
    max_attempts: int,
    idempotency: IdempotencyClaim | None = None,
) -> tuple[Comparison, Job]:
    """A new comparison with its first job, queued. `spec` is settled. Publish the job's id afterwards.

    Raises NotFound when the dataset was deleted meanwhile, Conflict when the idempotency claim was lost.
    """
    assert spec.name is not None
    row = ComparisonRow(
        id=new_id(PREFIX),
        name=spec.name,
        spec=spec.model_dump(mode="json", by_alias=True),
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        task=dataset.description.task,
        status="running",
        created_at=now(),
    )
    with db.session() as session:
        session.add(row)
        session.flush()
        job = _make(session, row.id, 0, _training(spec, steps(spec)[0], dataset, max_attempts))
        if idempotency is not None:
            attach(session, idempotency, row.id)
        return _record(session, row), job


def get(db: Database, comparison_id: str) -> Comparison:
    """Raises NotFound."""
    with db.reading() as session:
        return _comparison(_find(session, comparison_id))


def page(
    db: Database,
    limit: int = 20,
    after: str | None = None,
    order: Order = "desc",
    *,
    status: Status | None = None,
    dataset: str | None = None,
) -> Page[Comparison]:
    """Comparisons, newest first; `dataset` is a name or an id. Raises InvalidInput."""
    check_cursor(after, PREFIX)
    query = select(ComparisonRow)
    if status is not None:
        query = query.where(ComparisonRow.status == status)
    if dataset is not None:
        query = query.where((ComparisonRow.dataset_id == dataset) | (ComparisonRow.dataset_name == dataset))
    with db.reading() as session:
        found = page_of(session, query, ComparisonRow.id, limit=limit, after=after, order=order)
        return found.map(_comparison)


def jobs_of(db: Database, comparison_id: str) -> list[Job]:
    """Its jobs so far, in the order of its steps."""
    with db.reading() as session:
        return [job_records.job(row) for row in _jobs(session, comparison_id)]


def cancel(db: Database, comparison_id: str) -> Comparison:
    """End it, with the job that it is at. Again: the same answer. Raises NotFound, Conflict when it has ended."""
    with db.session() as session:
        row = _hold(session, comparison_id)
        if row is None:
            found = _find(session, comparison_id)
            if found.status != "cancelled":
                raise Conflict(
                    f"comparison {comparison_id} has {found.status} already; there is nothing to cancel."
                )
            return _comparison(found)
        _end(row, "cancelled")
        cancelled = _record(session, row)
    _cancel_jobs(db)
    return cancelled


def delete(db: Database, comparison_id: str) -> None:
    """Forget a comparison that has ended; its jobs and the models that they made stay. Raises NotFound, Conflict."""
    with db.session() as session:
        row = _find(session, comparison_id)
        if row.status == "running":
            raise Conflict(f"comparison {comparison_id} is running; cancel it first, or wait for its end.")
        its_jobs = update(JobRow).where(JobRow.comparison_id == comparison_id)
        session.execute(its_jobs.values(comparison_id=None, comparison_step=None))
        session.execute(delete_from(ComparisonRow).where(ComparisonRow.id == comparison_id))


def advance(db: Database, max_attempts: int) -> list[Running]:
    """Make the next job of every comparison whose last one has ended, and end those whose last one has failed. All that
    run. Raises Unavailable."""
    _cancel_jobs(db)
    with db.reading() as session:
        running = session.scalars(select(ComparisonRow.id).where(ComparisonRow.status == "running")).all()
    return [Running(one, _advanced(db, one, max_attempts)) for one in running]


def finish(db: Database, comparison_id: str, agreement: list[dict[str, Any]]) -> bool:
    """It has had all its jobs, whose results agree so far. False: it has ended otherwise meanwhile."""
    with db.session() as session:
        row = _hold(session, comparison_id)
        if row is None:
            return False
        row.agreement = agreement
        _end(row, "succeeded")
        return True


def _advanced(db: Database, comparison_id: str, max_attempts: int) -> bool:
    """Whether it has had all its jobs."""
    with db.reading() as session:
        found = _comparison(_find(session, comparison_id))
        last = job_records.job(_jobs(session, comparison_id)[-1])
    if not last.finished:
        return False
    assert last.comparison_step is not None
    following = last.comparison_step + 1
    if last.status != "succeeded":
        _fail(db, last)
    elif following == len(steps(found.settled_spec)):
        return True
    else:
        _go_on(db, found, following, max_attempts)
    return False


def _fail(db: Database, last: Job) -> None:
    """End it as its last job has ended."""
    assert last.comparison is not None
    with db.session() as session:
        row = _hold(session, last.comparison)
        if row is not None:
            status: Status = "cancelled" if last.status == "cancelled" else "failed"
            _end(row, status, last.error_code, _of_its_job(last))


def _go_on(db: Database, found: Comparison, number: int, max_attempts: int) -> None:
    """Make its next job, unless another process was faster; where that cannot be, it has failed."""
    try:
        row = _job_row(db, found, number, max_attempts)
        with db.session() as session:
            held = _hold(session, found.id)
            if held is not None and _jobs(session, found.id)[-1].comparison_step == number - 1:
                _make(session, found.id, number, row)
    except NotFound as gone:
        with db.session() as session:
            held = _hold(session, found.id)
            if held is not None:
                _end(held, "failed", gone.specific_code, gone.detail)


def _job_row(db: Database, found: Comparison, number: int, max_attempts: int) -> JobRow:
    """The job of a step. Raises NotFound where the dataset or the model is gone."""
    spec = found.settled_spec
    step = steps(spec)[number]
    dataset = datasets.get(db, found.dataset_id)
    if step.kind == "training":
        return _training(spec, step, dataset, max_attempts)
    version = _trained(db, found.id, step)
    scoring = ScoringSpec(
        model=f"{version.name}@{version.version}",
        dataset=dataset.id,
        split="test",
        engine=step.framework,
        wanted=["labels", "logits"],
        precision="float32",
        rows=count("test", dataset.description),
        metadata=spec.metadata,
    )
    return predictions.row_of(scoring, dataset, version, max_attempts)


def _trained(db: Database, comparison_id: str, step: Step) -> ModelVersion:
    """What its training of this framework and seed has made. Raises NotFound when that was deleted."""
    made = next(
        job
        for job in jobs_of(db, comparison_id)
        if (job.kind, job.framework) == ("training", step.framework)
        and job.spec["training"]["seed"] == step.seed
    )
    assert made.model_name is not None
    assert made.model_version is not None
    return registry.version(db, made.model_name, made.model_version)


def _training(spec: ComparisonSpec, step: Step, dataset: DatasetRecord, max_attempts: int) -> JobRow:
    return jobs.row_of(spec.job(step.framework, step.seed), dataset, max_attempts)


def _make(session: Session, comparison_id: str, number: int, row: JobRow) -> Job:
    row.comparison_id, row.comparison_step = comparison_id, number
    return jobs.insert(session, row, None)


def _cancel_jobs(db: Database) -> None:
    """The jobs of comparisons that were cancelled: a process may have died before it came to them."""
    with db.reading() as session:
        left = session.execute(
            select(JobRow.id, JobRow.kind)
            .join(ComparisonRow, JobRow.comparison_id == ComparisonRow.id)
            .where(
                ComparisonRow.status == "cancelled",
                JobRow.status.in_(["queued", "running"]),
                ~JobRow.cancel_requested,
            )
        ).all()
    for job_id, kind in left:
        try:
            jobs.cancel(db, job_id, cast(Kind, kind))
        except Conflict:  # it has just ended
            continue


def _of_its_job(job: Job) -> str:
    noun = job_records.NOUNS[job.kind]
    if job.status == "cancelled":
        return f"Its {noun} {job.id} was cancelled."
    return f"Its {noun} {job.id} in {job.framework} failed: {job.error_message}"


def _hold(session: Session, comparison_id: str) -> ComparisonRow | None:
    """The row of a running comparison, held until the transaction ends; None where it has ended."""
    query = select(ComparisonRow).where(ComparisonRow.id == comparison_id, ComparisonRow.status == "running")
    return session.scalars(query.with_for_update()).one_or_none()


def _end(row: ComparisonRow, status: Status, code: str | None = None, message: str | None = None) -> None:
    row.status, row.error_code, row.error_message = status, code, message
    row.finished_at = now()


def _find(session: Session, comparison_id: str) -> ComparisonRow:
    row = session.get(ComparisonRow, comparison_id)
    if row is None:
        raise NotFound(f"there is no comparison {comparison_id!r}; GET /comparisons lists them.")
    return row


def _jobs(session: Session, comparison_id: str) -> list[JobRow]:
    query = select(JobRow).where(JobRow.comparison_id == comparison_id).order_by(JobRow.comparison_step)
    return list(session.scalars(query).all())


def _record(session: Session, row: ComparisonRow) -> Comparison:
    session.flush()
    session.refresh(row)
    return _comparison(row)


def _comparison(row: ComparisonRow) -> Comparison:
    return Comparison(
        id=row.id,
        name=row.name,
        spec=row.spec,
        dataset_id=row.dataset_id,
        dataset_name=row.dataset_name,
        status=cast(Status, row.status),
        error_code=row.error_code,
        error_message=row.error_message,
        agreement=row.agreement,
        of_regression=row.task.endswith("regression"),
        created_at=moment(row.created_at),
        finished_at=optional_moment(row.finished_at),
    )
