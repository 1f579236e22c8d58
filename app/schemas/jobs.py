"""Jobs and what they leave behind."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.schemas.paging import Answer
from models.framework import Framework
from workers.job_records import CheckpointRecord, EventType, Status
from workers.job_records import Event as EventRecord
from workers.job_records import Job as JobRecord

EXAMPLE: dict[str, Any] = {
    "id": "job_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "object": "job",
    "name": "digits-cnn",
    "status": "running",
    "phase": "training",
    "progress": {"epoch": 2, "epochs": 5, "step": 51, "total_steps": 110},
    "framework": "torch",
    "spec": {
        "framework": "torch",
        "dataset": "digits",
        "model": {"architecture": "cnn", "width": 32, "stages": 3},
        "training": {"epochs": 5, "batch_size": 64, "seed": 0},
        "init": {"from": "scratch"},
        "name": "digits-cnn",
        "metadata": {"team": "vision"},
    },
    "dataset": {"id": "ds_00000000000000000000000000", "name": "digits", "sha256": "9f86d081884c7d65" * 4},
    "metrics": {"train_loss": 0.21, "validation_loss": 0.18, "validation_accuracy": 0.953},
    "timing": {"queued_s": 0.1, "setup_s": 0.4, "compile_s": 0.0, "train_s": 3.2, "samples_per_s": 2100.0},
    "peak_memory_bytes": None,
    "device": "cpu",
    "worker": "wrk_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested": False,
    "result": None,
    "resumed_from": None,
    "comparison": None,
    "error": None,
    "stop_reason": None,
    "created_at": "2026-01-05T09:30:00Z",
    "started_at": "2026-01-05T09:30:01Z",
    "finished_at": None,
    "estimated_finish": "2026-01-05T09:30:09Z",
    "metadata": {"team": "vision"},
    "urls": {
        "self": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab",
        "events": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/events",
        "metrics": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/metrics",
        "checkpoints": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/checkpoints",
        "logs": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/logs",
        "cancel": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/cancel",
        "retry": "/jobs/job_01jd8zq4m3v6x9n2k5t7w0y1ab/retry",
    },
}


class Progress(Answer):
    """How far a job is; null until it is known."""

    epoch: int | None
    epochs: int | None
    step: int | None
    total_steps: int | None


class JobDataset(Answer):
    """What the job trains on. `sha256` is null while a built-in dataset has not been prepared."""

    id: str
    name: str
    sha256: str | None


class JobResult(Answer):
    """The version that the job registered."""

    model: str
    version: int


class JobError(Answer):
    """Why the job failed."""

    code: str
    message: str


class JobUrls(Answer):
    """Where the rest is; `model` once there is one."""

    self: str
    events: str
    metrics: str
    checkpoints: str
    logs: str
    cancel: str
    retry: str
    model: str | None = None

    @classmethod
    def of(cls, job: JobRecord) -> "JobUrls":
        base = f"/jobs/{job.id}"
        parts = {part: f"{base}/{part}" for part in cls.model_fields if part not in ("self", "model")}
        model = f"/models/{job.model_name}/versions/{job.model_version}" if job.model_name else None
        return cls.model_validate({"self": base, "model": model, **parts})


class Job(Answer):
    """A training job."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    id: str
    object: Literal["job"] = "job"
    name: str = Field(description="The model that a success registers a version of.")
    status: Status
    phase: str | None = Field(description="What is going on, for people.")
    progress: Progress
    framework: Framework
    spec: dict[str, Any] = Field(description="The body of the request with every default filled in.")
    dataset: JobDataset
    metrics: dict[str, float | None]
    timing: dict[str, float | None] = Field(
        description="queued_s, setup_s, compile_s, train_s, samples_per_s."
    )
    peak_memory_bytes: int | None = Field(
        description="The most of the machine's memory that its process held at once; a GPU's is not counted."
    )
    device: str | None
    worker: str | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    result: JobResult | None
    resumed_from: str | None
    comparison: str | None = Field(description="The comparison that it is a part of.")
    error: JobError | None
    stop_reason: str | None = Field(description="Why training ended before its last epoch, if it did.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish: datetime | None
    metadata: dict[str, Any]
    urls: JobUrls

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        result = job.model_name and {"model": job.model_name, "version": job.model_version}
        error = job.error_code and {"code": job.error_code, "message": job.error_message or ""}
        same = {name: getattr(job, name) for name in cls.model_fields.keys() & vars(job).keys()}
        return cls.model_validate(
            {
                **same,
                "progress": {name: getattr(job, name) for name in Progress.model_fields},
                "dataset": {"id": job.dataset_id, "name": job.dataset_name, "sha256": job.dataset_sha256},
                "result": result or None,
                "error": error or None,
                "urls": JobUrls.of(job),
            }
        )


class Event(Answer):
    """Something that happened to a job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "object": "event",
                    "type": "metric",
                    "data": {"step": 22, "epoch": 1, "train_loss": 0.84},
                    "created_at": "2026-01-05T09:30:03Z",
                }
            ]
        }
    )
    id: int = Field(description="Counts up within the job; numbers may be missing.")
    object: Literal["event"] = "event"
    type: EventType
    data: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, event: EventRecord) -> Self:
        return cls(id=event.seq, type=event.type, data=event.data, created_at=event.created_at)


class Checkpoint(Answer):
    """A saved state of the training, in a form that either framework can go on from."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "1-44",
                    "object": "checkpoint",
                    "job": "job_01jd8zq4m3v6x9n2k5t7w0y1ab",
                    "step": 44,
                    "epoch": 2,
                    "size_bytes": 3481600,
                    "created_at": "2026-01-05T09:30:04Z",
                }
            ]
        }
    )
    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job: str
    step: int
    epoch: int
    size_bytes: int
    created_at: datetime

    @classmethod
    def of(cls, checkpoint: CheckpointRecord) -> Self:
        return cls(
            id=f"{checkpoint.fence}-{checkpoint.step}",
            job=checkpoint.job_id,
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            size_bytes=checkpoint.size_bytes,
            created_at=checkpoint.created_at,
        )
