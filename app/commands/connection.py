"""How the commands that talk to a server reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from app.client import Tandem

    Command = Callable[..., Any]


WIDE = 200
"""Columns of a pipe, so that no table is squeezed for `grep`."""


def url_option(command: Command) -> Command:
    """Adds `--url`."""
    text = "The server to talk to. [default: TANDEM_URL, else http://127.0.0.1:8000]"
    return click.option("--url", metavar="URL", help=text)(command)


def connect(url: str | None) -> Tandem:
    """A client for this server, or the one in the settings, with the API key in the settings."""
    from app.client import Tandem
    from workers.settings import settings

    key = settings().api_key
    return Tandem(url or settings().url, key.get_secret_value() if key else None)


def console() -> Console:
    """Standard output: styled and live on a terminal, plain lines in a pipe."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDE)
