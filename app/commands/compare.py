"""`tandem compare`."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from app.commands.connection import connect, url_option
from app.commands.specs import read_spec


@click.command()
@click.argument("file", type=click.File("rb"))
@url_option
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(0),
    multiple=True,
    help="Train with this seed; may be given several times.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the whole report: .html, or Markdown by any other name.",
)
def compare(file: IO[bytes], url: str | None, seeds: tuple[int, ...], report: Path | None) -> None:
    """Train what FILE describes (JSON as for POST /jobs; - reads standard input) in both frameworks, one job after
    another, and say which suits it. After Ctrl-C the comparison goes on without you."""
    spec = {name: value for name, value in read_spec(file).items() if name != "framework"}
    if seeds:
        spec["seeds"] = list(seeds)
    with connect(url) as tandem:
        begun = tandem.compare(spec)
        click.echo(begun.id)
        found = begun
        for found in tandem.follow_comparison(begun.id):
            click.echo(f"{found.progress.jobs} of {found.progress.total_jobs} jobs have ended", err=True)
        if found.status != "succeeded":
            raise click.ClickException(
                f"{found.id} {found.status}" + (f": {found.error.message}" if found.error else "")
            )
        for sentence in found.conclusion:
            click.echo(sentence)
        if report is not None:
            as_page = report.suffix in (".html", ".htm")
            report.write_text(tandem.comparison_report(found.id, "html" if as_page else "markdown"))
            click.echo(f"{report}: the report")
