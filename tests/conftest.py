"""What tests of several packages share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

HERE = Path(__file__).parent
ALONE = (
    "benchmarks/test_soak.py",
    "workers/running/test_embedded.py",
    "workers/running/test_spares.py",
    "workers/running/test_worker.py",
    "workers/test_broker.py",
    "workers/test_valkey.py",
)
"""Tests that say how soon something happens."""

WAITING = (
    "app/test_body_limits.py",
    "app/test_jobs_api.py",
    "app/test_operations_api.py",
    "app/test_pages_browser.py",
    "end_to_end/test_control.py",
    "models/test_large_sets.py",
    "workers/running/test_predictions.py",
    "workers/running/test_reconciler.py",
    "workers/running/test_stalls.py",
    "workers/running/test_supervisor.py",
    "workers/test_vigil.py",
)
"""Tests that say so too, but wait more than they compute: two of them get on well beside each other."""

LONG = (
    "benchmarks/test_accuracy.py",
    "benchmarks/test_architectures.py",
    "benchmarks/test_serving.py",
    "benchmarks/test_training_loop.py",
)
"""Tests of benchmarks: `make test-long`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m alone` and `-m waiting` the other files are not even imported: they are many."""
    asked_for = {"alone": ALONE, "waiting": WAITING}.get(config.option.markexpr)
    is_asked_for = asked_for is None or collection_path.is_dir() or _is_in(collection_path, asked_for)
    return None if is_asked_for else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, places in (("alone", ALONE), ("waiting", WAITING), ("long", LONG)):
            if _is_in(item.path, places):
                item.add_marker(marker)


def _is_in(path: Path, places: tuple[str, ...]) -> bool:
    return any(path.relative_to(HERE).is_relative_to(one) for one in places)


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
