"""`tandem score`."""

from __future__ import annotations

from pathlib import Path

import click

from app.commands.connection import connect, console, url_option
from models.framework import FRAMEWORKS


@click.command()
@click.argument("model")
@click.argument("dataset")
@url_option
@click.option(
    "--split", type=click.Choice(["train", "validation", "test", "all"]), default="test", show_default=True
)
@click.option("--engine", type=click.Choice(["auto", *FRAMEWORKS]), default="auto", show_default=True)
@click.option(
    "--return",
    "returns",
    type=click.Choice(["labels", "probabilities", "logits"]),
    multiple=True,
    default=["labels"],
    show_default=True,
    help="What to write for each row; may be given several times.",
)
@click.option(
    "--top-k", type=click.IntRange(1), default=1, show_default=True, help="Labels to list for each row."
)
@click.option("--format", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
def score(
    model: str,
    dataset: str,
    url: str | None,
    split: str,
    engine: str,
    returns: tuple[str, ...],
    top_k: int,
    format: str,
    output: Path,
) -> None:
    """Predict every row of DATASET with MODEL (name, name@version, name@alias or a job's id) and write the answers to
    a file. After Ctrl-C the prediction goes on without you."""
    from app.progress import watch_one

    with connect(url) as tandem:
        asked = tandem.predict_dataset(
            model, dataset, split=split, engine=engine, returns=returns, top_k=top_k, format=format
        )
        click.echo(asked.id)
        watch_one(tandem.follow_prediction(asked.id), dataset, console())
        done = tandem.prediction(asked.id)
        if done.result is None:
            raise click.ClickException(
                f"{done.id} {done.status}" + (f": {done.error.message}" if done.error else "")
            )
        file = tandem.download_prediction(done.id, output)
    metrics = "".join(f", {name} {value:.4g}" for name, value in done.metrics.items() if value is not None)
    click.echo(f"{file}: {done.result.rows} rows by {done.model.name}@{done.model.version}{metrics}")
