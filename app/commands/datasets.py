"""`tandem datasets ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.commands.connection import connect, console, url_option

FRACTION = click.FloatRange(0, 1, min_open=True, max_open=True)


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
    "--task",
    required=True,
    help="image-classification, text-classification, tabular-classification or tabular-regression.",
)
@click.option("--target", help="The column to predict; for texts 'label' unless given.")
@click.option("--text", help="The column that holds the text; 'text' unless given.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=KIND",
    help="What a column holds, if it does not look like it: numeric, categorical or ignore. May be repeated.",
)
@click.option("--size", help="Height and width of images in pixels: 64 or 48x64.")
@click.option("--resize", help="How images of other proportions get this size: stretch, crop or pad.")
@click.option("--channels", type=click.IntRange(1, 3), help="1 to take images as grey, 3 as coloured.")
@click.option("--test-fraction", type=FRACTION, help="How much to set aside for the test.")
@click.option("--validation-fraction", type=FRACTION, help="How much of the rest is for validation.")
@url_option
def upload(
    file: Path, name: str, columns: tuple[str, ...], size: str | None, url: str | None, **options: Any
) -> None:
    """Upload FILE: images (.zip of class folders, .npz), texts or tables (.csv, .jsonl, .parquet)."""
    kinds = dict(_named(column) for column in columns)
    with connect(url) as tandem:
        dataset = tandem.upload_dataset(
            file, name=name, columns=kinds or None, size=None if size is None else _sides(size), **options
        )
    for warning in dataset.warnings:
        click.echo(f"warning: {warning.detail}", err=True)
    splits = dataset.splits
    click.echo(
        f"{dataset.id} {dataset.name}: {splits.train} train, {splits.validation} validation, {splits.test} test"
    )


def _named(column: str) -> tuple[str, str]:
    name, sign, kind = column.rpartition("=")
    if not sign:
        raise click.BadParameter(f"{column!r} is not NAME=KIND.", param_hint="--column")
    return name, kind


def _sides(size: str) -> tuple[int, int]:
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise click.BadParameter("Write 64, or height and width as 48x64.", param_hint="--size")
    return int(sides[0]), int(sides[-1])
