"""Models that were taken out of service, and versions with a precision of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("models", sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("model_versions", sa.Column("serving", sa.JSON(), nullable=True))
