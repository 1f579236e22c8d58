"""A process that serves the API: `python -m app.process --door 5 --place 1 --folder /run/x --ready 6`.

Its settings come from the environment; it says on the pipe `--ready` that it answers.
"""

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.prediction.connection import Connection
from app.siblings import Place
from workers import logging
from workers.settings import Settings
from workers.trainer_environment import default_threads

OPEN_STREAMS_GET_S = 3
"""Event streams never end by themselves; after so long they are cut, and clients come back with Last-Event-ID."""


class Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(settings: Settings, door: socket.socket, place: Place, ready: Callable[[], object]) -> None:
    """Serve the API on this socket until SIGINT or SIGTERM; `ready` is called once it answers.

    Exits with status 1 when it could not start; why stands in the log.
    """
    # Each of the serving threads computes a batch of its own: together they have as many threads as there are cores.
    threads = default_threads(settings.serving_threads * settings.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if settings.serving_device == "cpu":
        # JAX would otherwise start every GPU it finds, and take most of its memory, to serve from the CPU.
        os.environ["JAX_PLATFORMS"] = "cpu"
    server = Server(config(create_app(settings, place)), ready)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run(sockets=[door])
    if not server.started:
        sys.exit(1)


def config(app: FastAPI, **changes: Any) -> uvicorn.Config:
    """How uvicorn serves this application: what can be is answered on the connection."""
    given: dict[str, Any] = {
        "loop": "auto",
        "http": partial(Connection, app.state.fast_path),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": OPEN_STREAMS_GET_S,
    }
    return uvicorn.Config(app, **{**given, **changes})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--door", type=int, required=True)
    parser.add_argument("--place", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ready", type=int, required=True)
    options = parser.parse_args(arguments)
    settings = Settings()
    logging.configure(settings)
    with socket.socket(fileno=options.door) as door:
        place = Place(options.place, options.folder)
        serve(settings, door, place, partial(os.write, options.ready, b"."))


if __name__ == "__main__":
    main()
