"""One process that serves the API."""

import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.place import Place
from app.prediction.http_protocol import HttpProtocol
from models.engine import stop_servers
from workers import program_cache
from workers.settings import Settings
from workers.trainer_environment import default_threads

OPEN_STREAMS_GET_S = 3
"""Event streams never end by themselves; after so long they are cut, and clients come back with Last-Event-ID."""
COLLECTED_AFTER = 10_000
"""So many more objects are made than freed between two garbage collections: requests leave nothing for them, and those
that wait would be looked through again and again."""

SWITCH_INTERVAL_S = 0.0001
"""How long a thread that wants the interpreter lets another go on; Python's own is 5 ms. A runner wants it back after
every operation of its network: with 5 ms, an event loop that turns requests away leaves it next to none."""
TICKS_A_BEAT = 10
"""uvicorn ticks ten times a second."""


class Server(uvicorn.Server):
    """Tells when it is ready, and that it lives; what engines have running besides ends with it."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], object], alive: Callable[[], object] | None
    ) -> None:
        super().__init__(config)
        self._ready, self._alive = ready, alive

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # What was imported stays; see `server.serve_here`.
            gc.freeze()
            gc.set_threshold(COLLECTED_AFTER)
            gc.enable()
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if self._alive is not None and counter % TICKS_A_BEAT == 0:
            self._alive()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stop_servers()
        await super().shutdown(sockets)


def serve(
    settings: Settings,
    door: socket.socket,
    place: Place,
    ready: Callable[[], object],
    alive: Callable[[], object] | None,
) -> None:
    """Serve the API on this socket until SIGINT or SIGTERM; `ready` is called once it answers, `alive` about every
    second from then on.

    Exits with status 1 when it could not start; why stands in the log.
    """
    # Each of the serving threads computes a batch of its own: together they have as many threads as there are cores.
    threads = default_threads(settings.serving_threads * settings.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # XLA's name for the size of its pool, which all batches of a process share.
    os.environ.setdefault("NPROC", str(default_threads(settings.processes)))
    for name, value in program_cache.environment(settings).items():
        os.environ.setdefault(name, value)
    if settings.serving_device == "cpu":
        # JAX would otherwise start every GPU it finds, and take most of its memory, to serve from the CPU.
        os.environ["JAX_PLATFORMS"] = "cpu"
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = create_app(settings, place)
    app.openapi()  # errors name the nearest parameter with it; made later, it would hold up everyone's requests
    server = Server(config(app), ready, alive)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run(sockets=[door])
    if not server.started:
        sys.exit(1)


def config(app: FastAPI, **changes: Any) -> uvicorn.Config:
    """How uvicorn serves this application: what can be is answered on the connection."""
    given: dict[str, Any] = {
        "loop": "auto",
        "http": partial(HttpProtocol, app.state.fast_path),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": OPEN_STREAMS_GET_S,
    }
    return uvicorn.Config(app, **{**given, **changes})
