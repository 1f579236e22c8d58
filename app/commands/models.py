"""`tandem models ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from app.commands.connection import connect, console, url_option

DEFAULT = "default"
"""The server's own bound."""


def _bound(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """A number, or `DEFAULT`."""
    if value is None or value == DEFAULT:
        return value
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor {DEFAULT!r}.")
    return int(value)


@click.group()
def models() -> None:
    """List, import, name, serve, download, export and delete models."""


@models.command("list")
@url_option
def list_models(url: str | None) -> None:
    """Registered models."""
    from rich.table import Table

    table = Table("model", "versions", "aliases", box=None)
    with connect(url) as tandem:
        for model in tandem.models():
            versions = ", ".join(str(version.version) for version in model.versions)
            aliases = ", ".join(f"{alias}={version}" for alias, version in model.aliases.items())
            table.add_row(model.name, versions, aliases)
    console().print(table)


@models.command()
@click.argument("name")
@url_option
def show(name: str, url: str | None) -> None:
    """Everything about one model and its versions, as JSON."""
    with connect(url) as tandem:
        click.echo(tandem.model(name).model_dump_json(indent=2))


@models.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The model that gets a new version.")
@click.option(
    "--model",
    "architecture",
    metavar="JSON",
    help="The architecture, by its name or as JSON with its options; not needed for a file that Tandem wrote.",
)
@click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a class a line, in the order of the outputs.",
)
@click.option("--tokenizer", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preprocess", metavar="JSON", help="How images become input: size, resize, mean, std.")
@click.option("--task", help="What a network that does several does.")
@url_option
def import_model(
    file: Path,
    name: str,
    architecture: str | None,
    classes: Path | None,
    tokenizer: Path | None,
    preprocess: str | None,
    task: str | None,
    url: str | None,
) -> None:
    """Import FILE, a .safetensors or .pth checkpoint of torchvision, transformers or Tandem."""
    with connect(url) as tandem:
        version = tandem.import_model(
            file,
            name=name,
            model=None if architecture is None else _architecture(architecture),
            task=task,
            classes=None if classes is None else classes.read_text().splitlines(),
            preprocess=None if preprocess is None else _json(preprocess, "--preprocess"),
            tokenizer=tokenizer,
        )
    click.echo(f"{version.name}@{version.version} {version.architecture}, {version.parameters} parameters")


def _architecture(text: str) -> dict[str, Any]:
    return _json(text, "--model") if text.lstrip().startswith("{") else {"architecture": text}


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise click.BadParameter(f"this is not JSON: {problem}", param_hint=option) from None
    if not isinstance(found, dict):
        raise click.BadParameter("give a JSON object.", param_hint=option)
    return found


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
@url_option
def engines(name: str, version: int, url: str | None) -> None:
    """Which engine `auto` takes for a version, and what was measured of each."""
    from rich.table import Table

    with connect(url) as tandem:
        found = tandem.engines(name, version)
    sizes = sorted({size for one in found.engines for size in one.latency_ms})
    table = Table(
        "engine", "precision", *(f"ms for {size}" for size in sizes), "difference", "agrees", box=None
    )
    for one in found.engines:
        latencies = (f"{one.latency_ms[size]:.2f}" if size in one.latency_ms else "" for size in sizes)
        agrees = "yes" if one.agrees else "no"
        table.add_row(one.name, one.precision, *latencies, f"{one.difference:.1g}", agrees)
    console().print(table)
    for engine, why in found.unusable.items():
        click.echo(f"{engine}: {why}")
    click.echo(found.reason)


@models.command()
@click.argument("name")
@click.option("--load", help="When it is in memory: on_demand, at_start or pinned.")
@click.option("--max-batch-rows", callback=_bound, metavar="N", help="Inputs computed at once, or 'default'.")
@click.option("--max-waiting", callback=_bound, metavar="N", help="Inputs that may wait, or 'default'.")
@url_option
def serving(
    name: str,
    load: str | None,
    max_batch_rows: int | str | None,
    max_waiting: int | str | None,
    url: str | None,
) -> None:
    """When NAME is loaded, and its bounds: change what is given, and show them."""
    given = {"load": load, "max_batch_rows": max_batch_rows, "max_waiting_predictions": max_waiting}
    change = {name: None if value == DEFAULT else value for name, value in given.items() if value is not None}
    with connect(url) as tandem:
        found = (tandem.set_serving(name, change) if change else tandem.model(name)).serving
    rows, waiting = (
        "the server's" if bound is None else bound
        for bound in (found.max_batch_rows, found.max_waiting_predictions)
    )
    click.echo(f"{name}: {found.load}, rows in a batch: {rows}, waiting inputs: {waiting}")


@models.command()
@click.argument("name")
@click.argument("version", type=int)
@click.argument("precision")
@url_option
def precision(name: str, version: int, precision: str, url: str | None) -> None:
    """Compute a version's predictions in PRECISION, float32 or bfloat16; the latter only if its validation split keeps
    its labels."""
    with connect(url) as tandem:
        found = tandem.set_precision(name, version, precision).serving
    kept = ", ".join(f"{engine} keeps {share:.1%} of the labels" for engine, share in found.agreement.items())
    click.echo(f"{name}@{version} {found.precision}" + (f": {kept}" if kept else ""))


@models.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.confirmation_option("--yes", prompt="Its weights will be gone for good. Go on?")
@url_option
def delete(name: str, version: int | None, url: str | None) -> None:
    """Delete VERSION, or all of NAME, with the aliases that mean it."""
    with connect(url) as tandem:
        found = tandem.delete_model(name) if version is None else tandem.delete_model_version(name, version)
    gone = [f"{found.name}@{one}" for one in (*found.versions, *found.aliases)]
    click.echo(f"deleted: {', '.join(gone)}")


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
@click.option("--format", required=True, help="onnx, stablehlo, torch-export or transformers.")
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
