"""`tandem models ...`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from app.commands.connection import connect, console, url_option


@click.group()
def models() -> None:
    """List, name, download and export trained models."""


@models.command("list")
@url_option
def list_models(url: str | None) -> None:
    """Registered models."""
    from rich.table import Table

    table = Table("model", "versions", "aliases", box=None)
    with connect(url) as tandem:
        for model in tandem.models():
            versions = ", ".join(str(version["version"]) for version in model["versions"])
            aliases = ", ".join(f"{alias}={version}" for alias, version in model["aliases"].items())
            table.add_row(model["name"], versions, aliases)
    console().print(table)


@models.command()
@click.argument("name")
@url_option
def show(name: str, url: str | None) -> None:
    """Everything about one model and its versions, as JSON."""
    with connect(url) as tandem:
        click.echo(json.dumps(tandem.model(name), indent=2))


@models.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", type=int)
@url_option
def alias(name: str, alias: str, version: int, url: str | None) -> None:
    """Make NAME@ALIAS mean VERSION; the alias `champion` is what NAME alone means."""
    with connect(url) as tandem:
        tandem.set_alias(name, alias, version)
    click.echo(f"{name}@{alias} is {name}@{version}")


@models.command()
@click.argument("name")
@click.argument("version", type=int)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="[default: NAME-VERSION.safetensors]"
)
@url_option
def download(name: str, version: int, output: Path | None, url: str | None) -> None:
    """Download a version's weights as safetensors with torch's names and layouts."""
    with connect(url) as tandem:
        file = tandem.download_weights(name, version, output or Path(f"{name}-{version}.safetensors"))
    click.echo(f"{file} ({file.stat().st_size} bytes)")


@models.command()
@click.argument("name")
@click.argument("version", type=int)
@click.option("--format", required=True, help="onnx, stablehlo or torch-export.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="[default: NAME-VERSION with the format's suffix]",
)
@url_option
def export(name: str, version: int, format: str, output: Path | None, url: str | None) -> None:
    """Export a version for programs that know nothing of Tandem; the server checks the file against the model."""
    from models.exports import formats

    file = output or Path(f"{name}-{version}{formats.find(format).suffix}")
    with connect(url) as tandem:
        found = tandem.export_model(name, version, file, format=format)
    click.echo(
        f"{found.file} ({found.file.stat().st_size} bytes), largest difference {found.largest_difference:g}"
    )
