"""The files that describe jobs."""

import json
from typing import IO, Any

import click


def read_spec(file: IO[bytes]) -> dict[str, Any]:
    """The object in a JSON file. Raises ClickException."""
    try:
        spec = json.load(file)
    except ValueError as problem:
        raise click.ClickException(f"{file.name} is not JSON: {problem}") from problem
    if not isinstance(spec, dict):
        raise click.ClickException(f"{file.name} must hold a JSON object, the body of POST /jobs.")
    return spec
