"""`tandem up`, `api`, `worker` and `migrate`: the processes of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.database import Database
    from workers.settings import Settings

    Command = Callable[..., Any]


def address_options(command: Command) -> Command:
    """Adds `--host`, `--port` and `--processes`."""
    command = click.option(
        "--processes",
        type=click.IntRange(1, 256),
        help="Processes of the API on the one port. [default: TANDEM_PROCESSES, else 1]",
    )(command)
    command = click.option("--port", type=click.IntRange(0, 65535), help="[default: TANDEM_PORT, else 8000]")(
        command
    )
    return click.option("--host", help="[default: TANDEM_HOST, else 127.0.0.1]")(command)


@click.command()
@address_options
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept. [default: TANDEM_DATA_DIR, else ./tandem-data]",
)
def up(host: str | None, port: int | None, processes: int | None, data: Path | None) -> None:
    """Serve everything on this machine until Ctrl-C: the API, a broker and one worker per framework."""
    from app.server import listening, serve
    from workers import logging
    from workers.embedded import Stack

    settings = _settings(host=host, port=port, processes=processes, data_dir=data)
    logging.configure(settings)
    with listening(settings) as doors, Stack(settings) as stack:
        serve(stack.settings, doors)


@click.command()
@address_options
def api(host: str | None, port: int | None, processes: int | None) -> None:
    """Serve the API alone; workers and broker run elsewhere."""
    from app.server import listening, serve
    from workers import logging

    settings = _settings(host=host, port=port, processes=processes)
    logging.configure(settings)
    with listening(settings) as doors:
        serve(settings, doors)


@click.command()
@click.option("--framework", type=click.Choice(["torch", "jax"]), required=True)
@click.option(
    "--slots", type=click.IntRange(1), help="Jobs to run at a time. [default: TANDEM_SLOTS, else 1]"
)
@click.option(
    "--check", is_flag=True, help="Only tell whether this machine's worker is alive; exit status 1 if not."
)
def worker(framework: Any, slots: int | None, check: bool) -> None:
    """Run the training jobs of one framework until told to stop."""
    from workers.database import Database

    settings = _settings(slots=slots)
    database = Database(settings.database_url)
    if check:
        _check(database, framework, settings)
        return
    from workers import service

    database.migrate()
    service.run(settings, framework)


@click.command()
def migrate() -> None:
    """Bring the database to this version's schema; `up`, `api` and `worker` do so by themselves."""
    from workers.database import Database

    Database(_settings().database_url).migrate()
    click.echo("The database is up to date.")


def _settings(**given: Any) -> Settings:
    """The environment's settings, with what the command line says."""
    from workers.settings import Settings

    return Settings(**{name: value for name, value in given.items() if value is not None})


def _check(database: Database, framework: str, settings: Settings) -> None:
    """Raises ClickException unless a worker of this framework on this machine gave a sign of life lately."""
    import socket

    from workers import fleet

    alive = fleet.page(database, limit=200, seen_within_s=3 * settings.beat_s).data
    if not any(one.host == socket.gethostname() and one.framework == framework for one in alive):
        raise click.ClickException(
            f"no {framework} worker on this machine in the last {3 * settings.beat_s:g} s"
        )
