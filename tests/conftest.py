"""What tests of several packages share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

HERE = Path(__file__).parent
ALONE = (
    "app/test_body_limits.py",
    "app/test_jobs_api.py",
    "app/test_operations_api.py",
    "app/test_pages_browser.py",
    "benchmarks/test_soak.py",
    "end_to_end/test_control.py",
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


LONG = (
    "benchmarks/test_accuracy.py",
    "benchmarks/test_architectures.py",
    "benchmarks/test_serving.py",
    "benchmarks/test_training_loop.py",
    "end_to_end/test_dataset_predictions.py",
)
"""Tests of benchmarks, and of what smaller tests show too: `make test-long`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(HERE)
        for marker, places in ((pytest.mark.alone, ALONE), (pytest.mark.long, LONG)):
            if any(place.is_relative_to(one) for one in places):
                item.add_marker(marker)


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
