"""Comparisons of the frameworks on one training."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.schemas.engines import Engines
from app.schemas.jobs import JobError
from app.schemas.paging import Answer
from models.framework import Framework
from workers.comparison_figures import Figure as FigureRecord
from workers.comparison_figures import Figures
from workers.comparison_figures import Run as RunRecord
from workers.comparisons import Comparison as ComparisonRecord
from workers.comparisons import Status
from workers.job_records import Status as JobStatus

ID = "cmp_01jd8zq4m3v6x9n2k5t7w0y1ab"
FIGURE: dict[str, Any] = {"mean": 0.981, "spread": 0.004}
EXAMPLE: dict[str, Any] = {
    "id": ID,
    "object": "comparison",
    "name": "digits-cnn",
    "status": "succeeded",
    "progress": {"jobs": 8, "total_jobs": 8},
    "spec": {
        "dataset": "digits",
        "model": {"architecture": "cnn", "width": 32, "stages": 3},
        "training": {"epochs": 5, "batch_size": 64, "seed": 0},
        "frameworks": ["torch", "jax"],
        "seeds": [0, 1],
    },
    "dataset": {"id": "ds_00000000000000000000000000", "name": "digits"},
    "metric": "test_accuracy",
    "target": 0.97,
    "frameworks": {"torch": {"score": FIGURE}, "jax": {"score": FIGURE}},
    "runs": [],
    "agreement": [
        {
            "seed": 0,
            "frameworks": ["torch", "jax"],
            "loss_difference": {"first": 1e-07, "largest": 2e-06, "step": 104},
            "logit_difference": 3e-05,
            "equal_predictions": 1.0,
        }
    ],
    "serving": None,
    "conclusion": ["Training: JAX is faster, 2,100 samples/s against 1,400 (1.5 times)."],
    "error": None,
    "created_at": "2026-01-05T09:30:00Z",
    "finished_at": "2026-01-05T09:31:00Z",
    "metadata": {"team": "vision"},
    "urls": {
        "self": f"/comparisons/{ID}",
        "report": f"/comparisons/{ID}/report",
        "cancel": f"/comparisons/{ID}/cancel",
    },
}


class JobCount(Answer):
    """How many of its jobs have ended: trainings, and one prediction of the test split for each."""

    jobs: int
    total_jobs: int


class ComparedDataset(Answer):
    """What the jobs train on."""

    id: str
    name: str


class Figure(Answer):
    """Over the seeds: the mean, and the sample standard deviation where there are two or more."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, found: FigureRecord | None) -> "Figure | None":
        return None if found is None else cls(mean=found.mean, spread=found.spread)


class FrameworkFigures(Answer):
    """What one framework did; null where it is not known (yet)."""

    score: Figure | None = Field(default=None, description="The `metric`, by its model on the test split.")
    time_to_first_step_s: Figure | None = Field(
        default=None, description="From when a worker took the job: loading, building and compiling included."
    )
    compile_s: Figure | None = None
    samples_per_s: Figure | None = Field(default=None, description="Training, once everything is compiled.")
    train_s: Figure | None = Field(default=None, description="All steps and evaluations.")
    time_to_target_s: Figure | None = Field(
        default=None,
        description="From when a worker took the job until its validation score reached `target`.",
    )
    peak_memory_bytes: Figure | None = Field(
        default=None,
        description="The most of the machine's memory that its process held; a GPU's is not counted.",
    )

    @classmethod
    def of(cls, found: Mapping[str, FigureRecord | None]) -> Self:
        return cls.model_validate({name: Figure.of(figure) for name, figure in found.items()})


Curve = dict[str, list[int | float | None]]


class Run(Answer):
    """One training."""

    framework: Framework
    seed: int
    job: str | None = Field(description="Its job; null before its turn.")
    status: JobStatus | None
    model: str | None = Field(description="The version that it made.")
    device: str | None
    figures: dict[str, float | None]
    beside: int = Field(description="Other jobs that ran on its machine meanwhile: its times are worth less.")
    curve: Curve | None = Field(
        description="Its losses and scores by step, as `GET /jobs/{id}/metrics` gives them, thinned. Null in lists."
    )

    @classmethod
    def of(cls, run: RunRecord, curve: Curve | None) -> Self:
        job = run.job
        made = None if job is None or job.model_name is None else f"{job.model_name}@{job.model_version}"
        return cls(
            framework=run.framework,
            seed=run.seed,
            job=None if job is None else job.id,
            status=None if job is None else job.status,
            model=made,
            device=None if job is None else job.device,
            figures=dict(run.figures),
            beside=run.beside,
            curve=curve,
        )


class LossDifference(Answer):
    """Of the training loss, at steps that both report: at the first of them, and the largest with its step."""

    first: float
    largest: float
    step: int


class Agreement(Answer):
    """How far apart two frameworks are that trained with one seed; null where it cannot be told."""

    seed: int
    frameworks: tuple[Framework, Framework]
    loss_difference: LossDifference | None
    logit_difference: float | None = Field(
        description="The largest of any logit on the test split, each model on its own framework; in a regression of"
        " the predicted value."
    )
    equal_predictions: float | None = Field(description="The share of the test split with the same label.")


class ComparisonUrls(Answer):
    """Where the rest is."""

    self: str
    report: str
    cancel: str


class Comparison(Answer):
    """The same training in several frameworks: the same initial weights, the same batches, one job after another."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    id: str
    object: Literal["comparison"] = "comparison"
    name: str = Field(description="The model that each training registers a version of.")
    status: Status
    progress: JobCount
    spec: dict[str, Any] = Field(description="The body of the request with every default filled in.")
    dataset: ComparedDataset
    metric: str = Field(description="What `score` is.")
    target: float | None = Field(
        description="The validation score that every training reached: what `time_to_target_s` is about."
    )
    frameworks: dict[Framework, FrameworkFigures]
    runs: tuple[Run, ...]
    agreement: tuple[Agreement, ...] | None = Field(description="Null until it has succeeded.")
    serving: Engines | None = Field(
        description="Latency and throughput of predictions on each engine, of the first run's model. Null until it has"
        " been measured; in lists always."
    )
    conclusion: tuple[str, ...] = Field(description="What the figures say, in words.")
    error: JobError | None
    created_at: datetime
    finished_at: datetime | None
    metadata: dict[str, Any]
    urls: ComparisonUrls

    @classmethod
    def of(
        cls,
        found: ComparisonRecord,
        progress: JobCount,
        figures: Figures,
        *,
        curves: Mapping[str, Curve],
        serving: Engines | None,
        conclusion: tuple[str, ...],
    ) -> Self:
        """`curves` by the job's id."""
        base = f"/comparisons/{found.id}"
        error = found.error_message and {
            "code": found.error_code or found.status,
            "message": found.error_message,
        }
        return cls.model_validate(
            {
                "id": found.id,
                "name": found.name,
                "status": found.status,
                "progress": progress,
                "spec": found.spec,
                "dataset": {"id": found.dataset_id, "name": found.dataset_name},
                "metric": figures.metric,
                "target": figures.target,
                "frameworks": {name: FrameworkFigures.of(one) for name, one in figures.frameworks.items()},
                "runs": [Run.of(run, curves.get(run.job.id) if run.job else None) for run in figures.runs],
                "agreement": found.agreement,
                "serving": serving,
                "conclusion": conclusion,
                "error": error or None,
                "created_at": found.created_at,
                "finished_at": found.finished_at,
                "metadata": found.spec.get("metadata") or {},
                "urls": {"self": base, "report": f"{base}/report", "cancel": f"{base}/cancel"},
            }
        )


class DeletedComparison(Answer):
    """What went; its jobs and models stay."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": ID, "object": "comparison", "deleted": True}]}
    )
    id: str
    object: Literal["comparison"] = "comparison"
    deleted: Literal[True] = True
