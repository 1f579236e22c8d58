"""What tests of several packages share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

HERE = Path(__file__).parent
ALONE = (
    "app/test_body_limits.py",
    "app/test_cli.py",
    "app/test_client.py",
    "app/test_demo.py",
    "app/test_jobs_api.py",
    "app/test_operations_api.py",
    "app/test_pages_browser.py",
    "app/test_processes.py",
    "benchmarks/test_serving.py",
    "benchmarks/test_soak.py",
    "end_to_end/test_control.py",
    "end_to_end/test_dataset_predictions.py",
    "end_to_end/test_faults.py",
    "end_to_end/test_main_job.py",
    "end_to_end/test_uploads.py",
    "house/test_documents.py",
    "models/test_large_sets.py",
    "workers/running",
    "workers/test_broker.py",
    "workers/test_valkey.py",
)
"""Tests of whole servers, and those that say how soon something happens: `pytest -m alone`. The others do not mind
company: `pytest -m "not alone" --numprocesses 2`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE)
        if any(place.is_relative_to(one) for one in ALONE):
            item.add_marker(pytest.mark.alone)


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
