"""Datasets: uploads, and built-in ones once somebody has looked at them."""

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class DatasetRow(Base):
    """`sha256` names the one-file form in the artifact store; a built-in has none until it was prepared."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_sha256", "sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[dict[str, Any]]
    builtin: Mapped[bool]
    sha256: Mapped[str | None]
    size_bytes: Mapped[int | None]
    created_at: Mapped[float]
