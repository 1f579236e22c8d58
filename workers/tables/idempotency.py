"""Requests that carried an Idempotency-Key, and their answers."""

from sqlalchemy.orm import Mapped, mapped_column

from workers.tables.base import Base


class IdempotencyRow(Base):
    """In flight while `answer_body` is missing; `token` says whose flight it is."""

    __tablename__ = "idempotency_keys"

    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    token: Mapped[str]
    in_flight_until: Mapped[float]
    resource_id: Mapped[str | None]
    answer_status: Mapped[int | None]
    answer_body: Mapped[str | None]
    answer_location: Mapped[str | None]
    created_at: Mapped[float]
