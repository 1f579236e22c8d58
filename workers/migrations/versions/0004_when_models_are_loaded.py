"""When models are loaded, and bounds of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("models", sa.Column("serving", sa.JSON(), nullable=True))
