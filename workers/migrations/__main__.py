"""`python -m workers.migrations "message"` writes a migration from the tables as they are declared now.

Read it, tidy it and try it on both databases before it is committed. Migrations only go forward.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from workers.migrations.running import configuration


def write(message: str) -> None:
    """Write the difference between the declared tables and the newest migration as a new one."""
    config = configuration()
    number = 1 + len(list(ScriptDirectory.from_config(config).walk_revisions()))
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'compare.db'}")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            if number > 1:
                command.upgrade(config, "head")
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
        engine.dispose()


if __name__ == "__main__":
    write(sys.argv[1])
