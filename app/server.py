"""The API's process: its socket, uvicorn, and how it stops."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator

import click
import uvicorn

from workers.settings import Settings
from workers.trainer_environment import default_threads

OPEN_STREAMS_GET_S = 3
"""Event streams never end by themselves; after so long they are cut, and clients come back with Last-Event-ID."""


class Server(uvicorn.Server):
    """Tells people when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            click.echo(f"Tandem is ready on {address(sockets[0])} (its requests: /docs). Ctrl-C stops it.")


def refuse_open_door(settings: Settings) -> None:
    """Raises ClickException when strangers could reach an API that asks for no key."""
    if settings.api_key is None and not settings.allow_unauthenticated and not _is_loopback(settings.host):
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, and no API key is set. Set TANDEM_API_KEY, listen on"
            " 127.0.0.1, or, if something else keeps strangers out, set TANDEM_ALLOW_UNAUTHENTICATED=true."
        )


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket on the settings' address, taken before anything else starts; from now on SIGTERM is a Ctrl-C.

    Raises ClickException when the address is taken, or open to strangers without a key.
    """
    refuse_open_door(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        door = socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=2048)
    except OSError as problem:
        where = f"{settings.host}:{settings.port}"
        raise click.ClickException(
            f"Cannot listen on {where}: {problem.strerror}. Choose another --port."
        ) from problem
    with door:
        yield door


def serve(settings: Settings, door: socket.socket) -> None:
    """Serve the API on this socket until SIGINT or SIGTERM.

    Raises ClickException when it could not start; why stands in the log.
    """
    from app.main import create_app

    # Each of the serving threads computes a batch of its own: together they have as many threads as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(default_threads(settings.serving_threads)))
    if settings.serving_device == "cpu":
        # JAX would otherwise start every GPU it finds, and take most of its memory, to serve from the CPU.
        os.environ["JAX_PLATFORMS"] = "cpu"
    config = uvicorn.Config(
        create_app(settings),
        loop="auto",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=OPEN_STREAMS_GET_S,
    )
    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run(sockets=[door])
    if not server.started:
        sys.exit(1)


def address(door: socket.socket) -> str:
    """The URL that reaches this socket."""
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
