"""Workers, as they last reported."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class WorkerRow(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    framework: Mapped[str]
    device: Mapped[str]
    slots: Mapped[int]
    jobs: Mapped[list[Any]]
    started_at: Mapped[float]
    last_seen_at: Mapped[float]
