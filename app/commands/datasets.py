"""`tandem datasets ...`."""

from __future__ import annotations

from pathlib import Path

import click

from app.commands.connection import connect, console, url_option


@click.group()
def datasets() -> None:
    """List and upload datasets."""


@datasets.command("list")
@url_option
def list_datasets(url: str | None) -> None:
    """Built-in and uploaded datasets."""
    from rich.table import Table

    table = Table("name", "task", "train", "validation", "test", "id", box=None)
    with connect(url) as tandem:
        for dataset in tandem.datasets():
            sizes = (str(n) for n in (dataset.splits.train, dataset.splits.validation, dataset.splits.test))
            table.add_row(dataset.name, dataset.task, *sizes, dataset.id)
    console().print(table)


@datasets.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What jobs will call it.")
@click.option(
    "--task", required=True, help="image-classification, tabular-classification or tabular-regression."
)
@click.option("--target", help="The column to predict, for tables.")
@click.option("--test-fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True))
@url_option
def upload(
    file: Path, name: str, task: str, target: str | None, test_fraction: float | None, url: str | None
) -> None:
    """Upload FILE (.npz or .csv)."""
    with connect(url) as tandem:
        dataset = tandem.upload_dataset(
            file, name=name, task=task, target=target, test_fraction=test_fraction
        )
    splits = dataset.splits
    click.echo(
        f"{dataset.id} {dataset.name}: {splits.train} train, {splits.validation} validation, {splits.test} test"
    )
