"""Servers of their own for tests that break things: everything real, with short leases."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from app.client import Tandem

SHORT = {
    "TANDEM_BEAT_S": "0.5",
    "TANDEM_LEASE_S": "4",
    "TANDEM_RECONCILE_EVERY_S": "0.5",
    "TANDEM_REDISPATCH_S": "2",
    "TANDEM_BACKOFF_S": "0.2",
    "TANDEM_CHECKPOINT_EVERY_S": "0.5",
}


@pytest.fixture
def tandem(tandem_up: str) -> Iterator[Tandem]:
    """A client of the server that the whole session shares."""
    with Tandem(tandem_up) as client:
        yield client


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tandem]:
    """A client of a server that this module may hurt."""
    from app.demo import server

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHORT.items():
            patch.setenv(name, value)
        with (
            server(tmp_path_factory.mktemp("fragile"), Console(quiet=True)) as url,
            Tandem(url) as client,
        ):
            yield client
