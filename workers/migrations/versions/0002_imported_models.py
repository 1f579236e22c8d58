"""Imported models: versions without a job, a framework or a dataset."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("model_versions") as table:
        for column in ("job_id", "framework", "dataset_id", "dataset_name"):
            table.alter_column(column, existing_type=sa.Text(), nullable=True)
