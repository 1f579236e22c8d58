"""What tests of several packages share."""

from collections.abc import Iterator

import pytest
from rich.console import Console


@pytest.fixture(scope="session")
def tandem_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server with everything behind it, for tests that disturb nobody else's jobs."""
    from app.demo import server

    with server(tmp_path_factory.mktemp("tandem-up"), Console(quiet=True)) as url:
        yield url
