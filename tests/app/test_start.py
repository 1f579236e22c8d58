"""What an API does not import until it needs it: each of these would make the first answer come later."""

import os
import subprocess
import sys
from pathlib import Path

LATER = {
    "alembic": "a database that is not up to date",
    "celery": "the first job, or the first quiet seconds",
    "jax": "the first prediction on it",
    "jinja2": "the first page",
    "psycopg": "PostgreSQL",
    "redis": "the first job, or the first quiet seconds",
    "torch": "the first prediction on it",
}
PROGRAM = f"""
import asyncio, sys
from app import process
from app.main import create_app
from workers.settings import Settings

async def run():
    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        assert app.state.services.predictions is app.state.fast_path.service
        print(*sorted({set(LATER)} & set(sys.modules)))

asyncio.run(run())
"""


def test_a_start_imports_nothing_that_is_for_later(tmp_path: Path) -> None:
    environment = {**os.environ, "TANDEM_DATA_DIR": str(tmp_path)}
    found = []
    for _ in range(2):  # the first makes the database
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        found.append(said.stdout.split())
    assert found == [["alembic"], []]
