"""`tandem demo`."""

from __future__ import annotations

from pathlib import Path

import click

from app.commands.connection import console, url_option


@click.command()
@url_option
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Run in this folder and keep it. [default: a temporary folder, removed at the end]",
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder too.")
def demo(url: str | None, data: Path | None, keep: bool) -> None:
    """Train one network in PyTorch and in JAX through the REST API, and serve each from either.

    Starts a server of its own unless --url names one that runs.
    """
    if url is not None and (data is not None or keep):
        raise click.UsageError("--data and --keep are for the demo's own server; --url names another.")
    import signal

    from app import demo as show

    for ending in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a shell starts what it runs in the background deaf to SIGINT
        signal.signal(ending, signal.default_int_handler)

    shortfalls = show.against(url, console()) if url else show.in_a_folder(data, keep, console())
    if shortfalls:
        raise click.ClickException("; ".join(shortfalls))
