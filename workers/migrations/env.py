"""Run by Alembic: migrate over the connection that the caller holds."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from workers.tables import Base
from workers.tables.base import PlainText


def render(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """Migrations name database types only, so that they still run when our code has moved on."""
    return "sa.Text()" if kind == "type" and isinstance(item, PlainText) else False


context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_item=render
)
with context.begin_transaction():
    context.run_migrations()
