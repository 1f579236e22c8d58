"""A job and what it leaves behind: attempts, events, metrics, checkpoints.

Training is one kind of job, the prediction of a whole dataset another; what moves them is the same.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class JobRow(Base):
    """The truth about one job. Changed only by the guarded statements of `workers.transitions`, which
    `workers.jobs`, `workers.predictions` and `workers.dispatch` make."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_status", "status", "framework"),
        Index("ix_jobs_dataset_id", "dataset_id"),
        Index("ix_jobs_lease_until", "lease_until"),
        Index("ix_jobs_artifact_sha256", "artifact_sha256"),
        Index("ix_jobs_comparison_id", "comparison_id", "comparison_step", unique=True),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(server_default="training")
    name: Mapped[str]
    framework: Mapped[str]
    spec: Mapped[dict[str, Any]]
    dataset_id: Mapped[str]
    dataset_name: Mapped[str]
    dataset_sha256: Mapped[str | None]
    job_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    resumed_from: Mapped[str | None]
    comparison_id: Mapped[str | None]
    comparison_step: Mapped[int | None]

    status: Mapped[str]
    phase: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    stop_reason: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]

    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    fence: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    device: Mapped[str | None]
    lease_until: Mapped[float | None]
    dispatched_at: Mapped[float | None]
    not_before: Mapped[float | None]

    epoch: Mapped[int | None]
    epochs: Mapped[int | None]
    step: Mapped[int | None]
    total_steps: Mapped[int | None]
    first_progress_at: Mapped[float | None]
    first_progress_step: Mapped[int | None]
    last_progress_at: Mapped[float | None]
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    timing: Mapped[dict[str, Any]] = mapped_column(default=dict)
    peak_memory_bytes: Mapped[int | None]

    model_name: Mapped[str | None]
    model_version: Mapped[int | None]
    artifact_sha256: Mapped[str | None]
    artifact_bytes: Mapped[int | None]

    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    event_seq: Mapped[int] = mapped_column(default=0)
    log_bytes: Mapped[int] = mapped_column(default=0)


class AttemptRow(Base):
    """One claim of a job. Written once more, when it ends."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    worker: Mapped[str]
    host: Mapped[str]
    device: Mapped[str | None]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]


class EventRow(Base):
    """What a stream of a job's events replays, in the order of `seq`; numbers may be missing."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_type", "job_id", "type", "seq"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class MetricRow(Base):
    """A point of a curve. A resumed attempt writes over the points it computes again."""

    __tablename__ = "metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    data: Mapped[dict[str, Any]]


class CheckpointRow(Base):
    """A checkpoint whose manifest is written; `folder` is relative to the checkpoints' root."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    folder: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[float]
