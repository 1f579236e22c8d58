"""The database's tables, one module a noun."""

from workers.tables.base import Base
from workers.tables.comparisons import ComparisonRow
from workers.tables.datasets import DatasetRow
from workers.tables.fleet import WorkerRow
from workers.tables.idempotency import IdempotencyRow
from workers.tables.jobs import AttemptRow, CheckpointRow, EventRow, JobRow, MetricRow
from workers.tables.models import AliasRow, ModelRow, VersionRow

__all__ = [
    "AliasRow",
    "AttemptRow",
    "Base",
    "CheckpointRow",
    "ComparisonRow",
    "DatasetRow",
    "EventRow",
    "IdempotencyRow",
    "JobRow",
    "MetricRow",
    "ModelRow",
    "VersionRow",
    "WorkerRow",
]
