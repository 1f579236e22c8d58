"""What tests of several packages share."""

import sys
from collections.abc import Iterator

import pytest
from rich.console import Console


@pytest.fixture(autouse=True)
def _small_numbers_stay_numbers() -> Iterator[None]:
    """Training flushes denormal numbers to zero in its thread, which here is the one of all tests."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tandem_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server with everything behind it, for tests that disturb nobody else's jobs."""
    from app.demo import server

    with server(tmp_path_factory.mktemp("tandem-up"), Console(quiet=True)) as url:
        yield url
