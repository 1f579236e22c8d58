"""Training jobs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from app.bodies import body
from app.deps import IdempotencyKey, Paging, Uses
from app.idempotency import Answer, Sent, once
from app.openapi import READING_A_BODY, Responses, json_body, problems
from app.schemas.jobs import Checkpoint, Job
from app.schemas.paging import Listed
from app.submission import settled
from models.framework import Framework
from models.job import JobSpec
from workers import job_queries, jobs
from workers.idempotency import IdempotencyClaim, fingerprint
from workers.job_records import Job as JobRecord
from workers.job_records import Status

router = APIRouter(prefix="/jobs", tags=["Jobs"])

JobId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="A job's id.",
        examples=["job_01jd8zq4m3v6x9n2k5t7w0y1ab"],
    ),
]
TORCH_JOB = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "cnn"},
    "training": {"epochs": 5},
}
JAX_JOB = {
    "framework": "jax",
    "dataset": "cifar10",
    "model": {"architecture": "resnet18", "stem": "cifar"},
    "training": {
        "epochs": 30,
        "batch_size": 128,
        "seed": 0,
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_steps": 100},
        "augment": ["flip", "crop"],
    },
    "name": "cifar10-resnet",
    "metadata": {"team": "vision"},
}
CREATED: Responses = {
    201: {
        "model": Job,
        "description": "The job, queued.",
        "headers": {
            "Location": {
                "description": "Where the job is.",
                "schema": {"type": "string"},
                "example": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab",
            }
        },
    }
}

LOG = problems(
    404,
    besides={
        200: {
            "description": "What its process wrote.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "epoch 1/5: loss 0.84\n"}},
        }
    },
)


class JobFilter(Paging):
    """Which jobs."""

    status: Status | None = Field(default=None, examples=["running"])
    framework: Framework | None = Field(default=None, examples=["torch"])
    dataset: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9._-]{1,64}$",
        description="A dataset's name or id.",
        examples=["digits"],
    )
    name: str | None = Field(
        default=None, pattern=r"^[a-z0-9._-]{1,64}$", description="The model's name.", examples=["digits-cnn"]
    )


class Thinning(BaseModel):
    """How much of the curves."""

    model_config = ConfigDict(extra="forbid")
    points: int | None = Field(
        default=None, ge=1, le=100_000, description="Thin the curves to so many rows.", examples=[200]
    )


@router.post(
    "",
    status_code=201,
    responses=problems(409, *READING_A_BODY, besides=CREATED),
    openapi_extra=json_body(JobSpec, torch=TORCH_JOB, jax=JAX_JOB),
)
def create_job(spec: Annotated[JobSpec, Depends(body(JobSpec))], key: IdempotencyKey, uses: Uses) -> Response:
    """Queue a training job.

    Only `framework`, `dataset`, `model` and one of `training.epochs` and `training.max_steps` are needed; the answer
    shows what everything else was set to. `GET /architectures` lists what `model` may be.
    """

    def create(claim: IdempotencyClaim | None) -> JobRecord:
        complete, dataset = settled(uses.database, spec)
        attempts = uses.settings.max_attempts
        job = jobs.create(uses.database, complete, dataset, max_attempts=attempts, idempotency=claim)
        uses.publisher.announce(job)
        return job

    sent = Sent(key, "POST /jobs", fingerprint(spec.model_dump_json()))
    return once(uses.database, sent, create, lambda job_id: job_queries.get(uses.database, job_id), _created)


@router.get("", responses=problems())
def list_jobs(wanted: Annotated[JobFilter, Query()], uses: Uses) -> Listed[Job]:
    """Jobs, newest first."""
    page = job_queries.page(uses.database, **wanted.model_dump())
    return Listed[Job].of(map(Job.of, page.data), (job.id for job in page.data), page.has_more)


@router.get("/{job_id}", responses=problems(404))
def get_job(job_id: JobId, uses: Uses) -> Job:
    """One job."""
    return Job.of(job_queries.get(uses.database, job_id, "training"))


@router.post("/{job_id}/cancel", responses=problems(403, 404, 409))
def cancel_job(job_id: JobId, uses: Uses) -> Job:
    """End a job: at once if it is queued, soon if it is running. Asking again changes nothing."""
    return Job.of(jobs.cancel(uses.database, job_id))


@router.post("/{job_id}/retry", status_code=201, responses=problems(403, 404, 409, besides=CREATED))
def retry_job(job_id: JobId, key: IdempotencyKey, uses: Uses) -> Response:
    """A new job like this failed or cancelled one, which goes on from its last checkpoint."""

    def create(claim: IdempotencyClaim | None) -> JobRecord:
        job = jobs.retry(uses.database, job_id, idempotency=claim)
        uses.publisher.announce(job)
        return job

    sent = Sent(key, f"POST /jobs/{job_id}/retry", fingerprint(job_id))
    return once(uses.database, sent, create, lambda new_id: job_queries.get(uses.database, new_id), _created)


@router.get(
    "/{job_id}/metrics",
    responses=problems(
        404,
        besides={
            200: {
                "description": "Columns of equal length, null where a step has no such value.",
                "content": {
                    "application/json": {
                        "example": {
                            "step": [22, 44],
                            "epoch": [1, 2],
                            "train_loss": [0.84, 0.31],
                            "validation_accuracy": [0.88, 0.95],
                        }
                    }
                },
            }
        },
    ),
)
def get_metrics(
    job_id: JobId, wanted: Annotated[Thinning, Query()], uses: Uses
) -> dict[str, list[int | float | None]]:
    """The job's curves as columns: `step`, `epoch`, and `train_loss` (the mean since the point before),
    `epoch_train_loss` (the mean of the epoch), `validation_loss`, `test_loss`, and so on."""
    return job_queries.metrics(uses.database, job_id, wanted.points, "training")


@router.get("/{job_id}/checkpoints", responses=problems(404))
def list_checkpoints(job_id: JobId, paging: Annotated[Paging, Query()], uses: Uses) -> Listed[Checkpoint]:
    """The states of the training that are kept, newest first."""
    found = [Checkpoint.of(one) for one in job_queries.checkpoints(uses.database, job_id, "training")]
    return Listed[Checkpoint].part(found, lambda one: one.id, **paging.model_dump())


@router.get("/{job_id}/logs", response_class=PlainTextResponse, responses=LOG)
def get_logs(job_id: JobId, uses: Uses) -> PlainTextResponse:
    """The job's log."""
    return PlainTextResponse(job_queries.logs(uses.database, job_id, "training"))


def _created(job: JobRecord) -> Answer:
    return Answer(Job.of(job).model_dump_json(), f"/jobs/{job.id}")
