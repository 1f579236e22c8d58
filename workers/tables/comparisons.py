"""Comparisons: the same training in several frameworks, one job after another."""

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class ComparisonRow(Base):
    """What is compared, and how that ended. Its jobs name it. Changed only by `workers.comparisons`."""

    __tablename__ = "comparisons"
    __table_args__ = (Index("ix_comparisons_status", "status"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    dataset_id: Mapped[str]
    dataset_name: Mapped[str]
    task: Mapped[str]
    status: Mapped[str]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    agreement: Mapped[list[Any] | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
