"""Jobs and what belongs to them, as the rest of the program sees them: values that don't change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from models.framework import Framework
from workers.clock import moment, optional_moment
from workers.tables import AttemptRow, CheckpointRow, EventRow, JobRow

Kind = Literal["training", "prediction"]
NOUNS: Mapping[Kind, str] = {"training": "job", "prediction": "prediction"}
"""What people call a job of this kind; with an s it is the address of their list."""
PREFIXES: Mapping[str, str] = {"training": "job", "prediction": "pred"}
"""Of their ids."""
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
EventType = Literal["status", "progress", "metric", "log", "checkpoint", "done"]


@dataclass(frozen=True)
class Job:
    """A job at one moment.

    `name` is the registered model's name; `model_name` and `model_version` are set on success, and from the start for a
    prediction: the model that predicts. `artifact_sha256` and `artifact_bytes`: its file.
    `comparison`: the one that it is a part of, as step `comparison_step` of it.
    `attempt` counts the attempts that are charged against `max_attempts`; `fence` counts every change of ownership.
    """

    id: str
    kind: Kind
    name: str
    status: Status
    phase: str | None
    epoch: int | None
    epochs: int | None
    step: int | None
    total_steps: int | None
    framework: Framework
    spec: dict[str, Any]
    dataset_id: str
    dataset_name: str
    dataset_sha256: str | None
    metrics: dict[str, Any]
    timing: dict[str, Any]
    peak_memory_bytes: int | None
    device: str | None
    worker: str | None
    attempt: int
    max_attempts: int
    fence: int
    model_name: str | None
    model_version: int | None
    artifact_sha256: str | None
    artifact_bytes: int | None
    resumed_from: str | None
    comparison: str | None
    comparison_step: int | None
    error_code: str | None
    error_message: str | None
    stop_reason: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish: datetime | None
    metadata: dict[str, Any]

    @property
    def finished(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True)
class Event:
    """`seq` grows within a job; numbers may be missing."""

    seq: int
    type: EventType
    data: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class CheckpointRecord:
    """`folder` is relative to the settings' checkpoints_dir."""

    job_id: str
    fence: int
    step: int
    epoch: int
    folder: str
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class AttemptRecord:
    """`outcome` is None while it runs, else succeeded, released, failed, cancelled or lost."""

    job_id: str
    fence: int
    attempt: int
    worker: str
    host: str
    device: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    reason: str | None


def job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=cast(Kind, row.kind),
        name=row.name,
        status=cast(Status, row.status),
        phase=row.phase,
        epoch=row.epoch,
        epochs=row.epochs,
        step=row.step,
        total_steps=row.total_steps,
        framework=cast(Framework, row.framework),
        spec=row.spec,
        dataset_id=row.dataset_id,
        dataset_name=row.dataset_name,
        dataset_sha256=row.dataset_sha256,
        metrics=row.metrics,
        timing=row.timing,
        peak_memory_bytes=row.peak_memory_bytes,
        device=row.device,
        worker=row.owner,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        fence=row.fence,
        model_name=row.model_name,
        model_version=row.model_version,
        artifact_sha256=row.artifact_sha256,
        artifact_bytes=row.artifact_bytes,
        resumed_from=row.resumed_from,
        comparison=row.comparison_id,
        comparison_step=row.comparison_step,
        error_code=row.error_code,
        error_message=row.error_message,
        stop_reason=row.stop_reason,
        cancel_requested=row.cancel_requested,
        created_at=moment(row.created_at),
        started_at=optional_moment(row.started_at),
        finished_at=optional_moment(row.finished_at),
        estimated_finish=_estimated_finish(row),
        metadata=row.job_metadata,
    )


def event(row: EventRow) -> Event:
    return Event(row.seq, cast(EventType, row.type), row.data, moment(row.created_at))


def checkpoint(row: CheckpointRow) -> CheckpointRecord:
    return CheckpointRecord(
        row.job_id, row.fence, row.step, row.epoch, row.folder, row.size_bytes, moment(row.created_at)
    )


def attempt(row: AttemptRow) -> AttemptRecord:
    return AttemptRecord(
        job_id=row.job_id,
        fence=row.fence,
        attempt=row.attempt,
        worker=row.worker,
        host=row.host,
        device=row.device,
        started_at=moment(row.started_at),
        ended_at=optional_moment(row.ended_at),
        outcome=row.outcome,
        reason=row.reason,
    )


def _estimated_finish(row: JobRow) -> datetime | None:
    """When the last step will be done if steps keep their mean pace of this attempt; None when too early to say."""
    if (
        row.status != "running"
        or None in (row.step, row.total_steps, row.first_progress_step)
        or row.first_progress_at is None
        or row.last_progress_at is None
    ):
        return None
    done = cast(int, row.step) - cast(int, row.first_progress_step)
    if done <= 0:
        return None
    pace_s = (row.last_progress_at - row.first_progress_at) / done
    remaining = max(0, cast(int, row.total_steps) - cast(int, row.step))
    return moment(row.last_progress_at) + timedelta(seconds=pace_s * remaining)
