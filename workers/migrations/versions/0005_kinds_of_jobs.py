"""Predictions of whole datasets: jobs of another kind, whose result is a file."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.Text(), nullable=False, server_default="training"))
    op.add_column("jobs", sa.Column("artifact_bytes", sa.BigInteger(), nullable=True))
    op.create_index("ix_jobs_artifact_sha256", "jobs", ["artifact_sha256"])
