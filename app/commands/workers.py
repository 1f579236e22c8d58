"""`tandem workers`."""

from __future__ import annotations

import click

from app.commands.connection import connect, console, url_option


@click.command()
@url_option
def workers(url: str | None) -> None:
    """The workers that have given a sign of life lately, and what they do."""
    from rich.table import Table

    table = Table("worker", "framework", "device", "host", "pid", "slots", "jobs", box=None)
    with connect(url) as tandem:
        for one in tandem.workers():
            table.add_row(
                one.id,
                one.framework,
                one.device or "",
                one.host,
                str(one.pid),
                str(one.slots),
                ", ".join(one.jobs),
            )
    console().print(table)
