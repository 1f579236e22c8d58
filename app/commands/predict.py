"""`tandem predict`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from app.commands.connection import connect, console, url_option
from models.framework import ENGINES


@click.command()
@click.argument("model")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@url_option
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto", show_default=True)
@click.option(
    "--top-k", type=click.IntRange(1), default=1, show_default=True, help="Labels to show for each input."
)
def predict(model: str, files: tuple[Path, ...], url: str | None, engine: str, top_k: int) -> None:
    """Predict with MODEL (name, name@version, name@alias or a job's id) from FILES: images, .json files that hold a
    list of inputs, or .txt files with a text a line."""
    from rich.table import Table

    names, inputs = zip(*(pair for file in files for pair in _inputs(file)), strict=True)
    with connect(url) as tandem:
        answer = tandem.predict(model, inputs, engine=engine, top_k=top_k)
    table = Table("input", "prediction", "score", box=None)
    for name, prediction in zip(names, answer.predictions, strict=True):
        if prediction.value is not None:
            table.add_row(name, f"{prediction.value:g}", "")
        for choice in prediction.top:
            table.add_row(name, choice.label, f"{choice.score:.4f}")
    console().print(table)
    served = answer.model
    click.echo(f"{served.name}@{served.version}, {_origin(served.framework)}, computed in {answer.engine}")


def _origin(framework: str | None) -> str:
    return "imported" if framework is None else f"trained in {framework}"


def _inputs(file: Path) -> list[tuple[str, object]]:
    """The file's inputs, each with a name to show: one image, the items of a JSON list, or lines of text."""
    if file.suffix == ".txt":
        lines = enumerate(file.read_text().splitlines(), start=1)
        return [(f"{file}:{number}", line) for number, line in lines if line.strip()]
    if file.suffix != ".json":
        return [(str(file), file)]
    try:
        rows = json.loads(file.read_bytes())
    except ValueError as problem:
        raise click.ClickException(f"{file} is not JSON: {problem}") from problem
    if not isinstance(rows, list):
        raise click.ClickException(f"{file} must hold a JSON list, one item for each prediction.")
    return [(f"{file}[{i}]", row) for i, row in enumerate(rows)]
