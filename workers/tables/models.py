"""Registered models: names, versions, aliases."""

from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class ModelRow(Base):
    """A name. It stays when its versions are deleted, so that no number is ever used for other weights.

    Where it is not `enabled`, its versions answer no predictions. `serving` is `models.serving.ModelServing`, null
    where nobody has chosen anything.
    """

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    last_version: Mapped[int]
    created_at: Mapped[float]
    enabled: Mapped[bool] = mapped_column(default=True)
    serving: Mapped[dict[str, Any] | None]


class VersionRow(Base):
    """Weights with all that is needed to serve them; inserted by the same transaction that ends the job.

    What was imported has no job, no framework that trained it and no dataset. `serving` is `models.serving.Serving`,
    null where nobody has chosen anything.
    """

    __tablename__ = "model_versions"
    __table_args__ = (Index("ix_model_versions_sha256", "sha256"),)

    name: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str | None] = mapped_column(unique=True)
    framework: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    signature: Mapped[dict[str, Any]]
    classes: Mapped[list[Any] | None]
    metrics: Mapped[dict[str, Any]]
    dataset_id: Mapped[str | None]
    dataset_name: Mapped[str | None]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    parameters: Mapped[int]
    created_at: Mapped[float]
    serving: Mapped[dict[str, Any] | None]


class AliasRow(Base):
    """Another name for a version; it goes when the version goes."""

    __tablename__ = "model_aliases"
    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"], ["model_versions.name", "model_versions.version"], ondelete="CASCADE"
        ),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
