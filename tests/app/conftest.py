"""A real server on a real port, with a real database and artifact store; no broker, no workers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from app.main import create_app
from app.services import Services
from workers.settings import Settings

DEAD_BROKER = "redis://127.0.0.1:1/0"


@dataclass
class Running:
    """A server in this process, with what it works with at hand."""

    client: httpx.Client
    services: Services
    address: tuple[str, int]


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on")
    )
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            address = door.getsockname()
            with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}", timeout=30) as client:
                yield Running(client, app.state.services, address)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def settings_in() -> Callable[..., Settings]:
    def build(folder: Path, **changes: Any) -> Settings:
        return Settings(**{"data_dir": folder, "broker_url": DEAD_BROKER, "database_url": "", **changes})

    return build


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, settings_in: Callable[..., Settings]
) -> Iterator[Running]:
    """One server for all tests of a module; they use names of their own."""
    folder = tmp_path_factory.mktemp("tandem")
    with running(settings_in(folder, max_body_bytes=200_000, max_upload_bytes=500_000)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> httpx.Client:
    return server.client
