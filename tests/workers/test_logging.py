"""What the log says, and what it must not say."""

import logging
from pathlib import Path
from typing import Literal

import pytest
import structlog

from workers.logging import configure
from workers.settings import Settings


@pytest.fixture(autouse=True)
def logging_as_it_was() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_the_code_but_no_values(
    log_format: Literal["console", "json"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings(data_dir=tmp_path, log_format=log_format))
    _fail({"authorization": "Bearer " + "secret"[::-1]})
    said = capsys.readouterr().err
    assert "it_went_wrong" in said
    assert "ZeroDivisionError" in said
    assert "terces" not in said


def _fail(headers: dict[str, str]) -> None:
    try:
        len(headers) / 0
    except ZeroDivisionError as error:
        structlog.get_logger("tests").error("it_went_wrong", exc_info=error)
