"""The `tandem` command.

Every command imports what it needs when it runs, so that `tandem --help` answers at once.
"""

from typing import Any

import click

from app.commands import compare, datasets, demo, jobs, models, predict, score, serve, workers


class Commands(click.Group):
    """Shows the errors that Tandem knows as one line; others are bugs and keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as problem:
            if (known := _in_one_line(problem)) is None:
                raise
            raise click.ClickException(known) from problem


def _in_one_line(problem: Exception) -> str | None:
    from pydantic import ValidationError

    from app.client import TandemAPIError
    from models.errors import TandemError

    if isinstance(problem, TandemAPIError):
        return problem.sentence
    if isinstance(problem, TandemError):
        return str(problem)
    if isinstance(problem, ValidationError) and problem.title == "Settings":
        return "; ".join(f"{_variable(error['loc'])}: {error['msg']}" for error in problem.errors())
    return None


def _variable(location: tuple[int | str, ...]) -> str:
    return "TANDEM_" + "_".join(str(part) for part in location).upper() if location else "settings"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tandem")
def main() -> None:
    """Post a dataset and a spec; train it in PyTorch or JAX; serve the weights from either."""


for command in (
    serve.up,
    demo.demo,
    jobs.train,
    jobs.jobs,
    compare.compare,
    predict.predict,
    score.score,
    datasets.datasets,
    models.models,
    workers.workers,
    serve.api,
    serve.worker,
    serve.migrate,
):
    main.add_command(command)
