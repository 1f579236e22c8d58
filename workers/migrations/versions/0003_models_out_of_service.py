"""Models that were taken out of service."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("models", sa.Column("serving", sa.Boolean(), nullable=False, server_default=sa.true()))
