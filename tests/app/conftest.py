"""Fixtures of the API's tests: a real server with a real database and artifact store; no broker, no workers."""

from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from tests.app.browser import Browser, browser
from tests.app.rows_model import KEY
from tests.app.serving import Registered, Running, registered, running, settings_in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests of a module; they use names of their own."""
    settings = settings_in(
        tmp_path_factory.mktemp("tandem"), max_body_bytes=500_000, max_upload_bytes=500_000
    )
    with running(settings) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that wants a key, and has the model that rows_model.py asks."""
    settings = settings_in(
        tmp_path_factory.mktemp("guarded"), api_key=KEY, max_body_bytes=20_000, max_batch_items=5
    )
    with running(settings) as server:
        server.client.headers["Authorization"] = f"Bearer {KEY}"
        registered(server.services, dataset="diabetes", name="rows")
        yield server


@pytest.fixture
def client(server: Running) -> httpx.Client:
    return server.client


@pytest.fixture
def register(server: Running) -> Callable[..., Registered]:
    return partial(registered, server.services)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        found.view(1280)
        yield found


@pytest.fixture
def chromium(window: Browser) -> Iterator[Browser]:
    """The window, which must have nothing to complain about at the end."""
    window.view(1280)
    window.open("about:blank")  # the page of the test before may be waiting for an answer still
    window.complaints()
    yield window
    assert window.complaints() == []
