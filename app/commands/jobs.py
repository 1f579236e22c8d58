"""`tandem train` and `tandem jobs ...`."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

from app.commands.connection import connect, console, url_option
from app.commands.specs import read_spec

if TYPE_CHECKING:
    from app.replies import Job

ID_LENGTH = 30


@click.command()
@click.argument("file", type=click.File("rb"))
@url_option
@click.option("--framework", help="torch or jax, whatever the file says.")
@click.option("--follow", is_flag=True, help="Stay and show the job's progress until it ends.")
def train(file: IO[bytes], url: str | None, framework: str | None, follow: bool) -> None:
    """Queue the training job that FILE describes (JSON as for POST /jobs; - reads standard input)."""
    spec = read_spec(file)
    if framework is not None:
        spec["framework"] = framework
    with connect(url) as tandem:
        job = tandem.create_job(spec)
        click.echo(job.id)
    if follow:
        _watch(url, job.id)


@click.group()
def jobs() -> None:
    """List, show, watch, cancel and retry training jobs."""


@jobs.command("list")
@url_option
@click.option("--status", help="Only jobs in this state.")
@click.option("--framework", help="Only jobs of this framework.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
def list_jobs(url: str | None, status: str | None, framework: str | None, limit: int) -> None:
    """The newest jobs."""
    from rich.table import Table

    table = Table("job", "name", "framework", "status", "epoch", "accuracy", "created (UTC)", box=None)
    table.columns[0].no_wrap, table.columns[0].min_width = True, ID_LENGTH
    with connect(url) as tandem:
        for job in tandem.jobs(status=status, framework=framework, limit=limit):
            table.add_row(*_row(job))
    console().print(table)


@jobs.command()
@click.argument("job_id")
@url_option
def show(job_id: str, url: str | None) -> None:
    """Everything about one job, as JSON."""
    with connect(url) as tandem:
        click.echo(tandem.job(job_id).model_dump_json(indent=2))


@jobs.command()
@click.argument("job_id")
@url_option
def cancel(job_id: str, url: str | None) -> None:
    """Stop a job that is queued or running."""
    with connect(url) as tandem:
        job = tandem.cancel(job_id)
        click.echo(f"{job.id} {job.status if job.finished else 'is being cancelled'}")


@jobs.command()
@click.argument("job_id")
@url_option
def retry(job_id: str, url: str | None) -> None:
    """Go on from the last checkpoint of a failed or cancelled job; prints the new job's id."""
    with connect(url) as tandem:
        click.echo(tandem.retry(job_id).id)


@jobs.command()
@click.argument("job_id")
@url_option
def logs(job_id: str, url: str | None) -> None:
    """What the job's process printed."""
    with connect(url) as tandem:
        click.echo(tandem.logs(job_id), nl=False)


@jobs.command()
@click.argument("job_id")
@url_option
def watch(job_id: str, url: str | None) -> None:
    """Show a job's progress until it ends; exit status 1 unless it succeeds."""
    _watch(url, job_id)


def _watch(url: str | None, job_id: str) -> None:
    from app.progress import watch as follow

    with connect(url) as tandem:
        (job,) = follow(tandem, {"job": tandem.job(job_id)}, console()).values()
    if job.status != "succeeded":
        raise click.ClickException(
            f"{job.id} {job.status}: {job.error.message if job.error else job.stop_reason}"
        )
    assert job.result is not None
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in job.metrics.items() if value is not None)
    click.echo(f"{job.result.model}@{job.result.version}: {metrics}")


def _row(job: Job) -> tuple[str, ...]:
    accuracy: Any = job.metrics.get("test_accuracy")
    return (
        job.id,
        job.name,
        job.framework,
        job.status,
        f"{job.progress.epoch or 0}/{job.progress.epochs or '?'}",
        "" if accuracy is None else f"{accuracy:.4f}",
        f"{job.created_at:%m-%d %H:%M}",
    )
