"""The job files in examples/: the API takes each of them, for either framework."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from models.framework import FRAMEWORKS
from tests.app.serving import Running

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.json"))


def queued(server: Running, shown: Result) -> dict[str, Any]:
    """The job that the command has queued; the server writes its log to the same place."""
    assert shown.exit_code == 0, shown.output
    (job_id,) = set(re.findall(r"^job_\w{26}$", shown.output, re.MULTILINE))
    found: dict[str, Any] = server.client.get(f"/jobs/{job_id}").json()
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_is_a_job_in_both_frameworks(server: Running, file: Path, framework: str) -> None:
    url = str(server.client.base_url)
    shown = CliRunner().invoke(main, ["train", str(file), "--framework", framework, "--url", url])
    job = queued(server, shown)
    asked = json.loads(file.read_text())
    assert job["framework"] == framework
    assert job["dataset"]["name"] == asked["dataset"]
    assert job["spec"]["model"].items() >= asked["model"].items()
    assert job["spec"]["training"]["optimizer"].items() >= asked["training"].get("optimizer", {}).items()


def test_without_the_option_the_files_own_framework_counts(server: Running) -> None:
    url = str(server.client.base_url)
    shown = CliRunner().invoke(main, ["train", str(EXAMPLES / "digits.json"), "--url", url])
    assert queued(server, shown)["framework"] == "torch"


def test_an_unknown_framework_is_one_clear_line(server: Running) -> None:
    url = str(server.client.base_url)
    arguments = ["train", str(EXAMPLES / "digits.json"), "--framework", "jaks", "--url", url]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 1
    assert "Unknown framework 'jaks'. Known: jax, torch." in shown.output


def test_the_readme_tells_of_every_file() -> None:
    told = set(re.findall(r"`([\w-]+\.json|three\.png)`", (EXAMPLES / "README.md").read_text()))
    assert told == {file.name for file in EXAMPLES.iterdir()} - {"README.md"}
