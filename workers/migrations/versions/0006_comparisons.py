"""Comparisons of frameworks, and the memory that jobs took."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("dataset_name", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("agreement", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index("ix_comparisons_status", "comparisons", ["status"])
    op.add_column("jobs", sa.Column("comparison_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("comparison_step", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True))
    op.create_index("ix_jobs_comparison_id", "jobs", ["comparison_id", "comparison_step"], unique=True)
