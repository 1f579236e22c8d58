"""What README says works: its commands run, in order, against a real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCE = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(found["language"], found["text"]) for found in FENCE.finditer(README)]
ELSEWHERE = {
    "make setup\nmake demo\n": "tests/app/test_demo.py; continuous integration starts with make setup",
    "make up\n": "tests/app/test_cli.py",
    "docker compose up --build\n": "docs/docker.md says how it was run",
}


def here(text: str, url: str) -> str:
    return text.replace("http://127.0.0.1:8000", url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a newcomer stands: a folder with the examples."""
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_works_in_order(tandem_up: str, folder: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TANDEM_URL": tandem_up,
        "PYTHONPATH": str(ROOT),
    }
    for language, text in BLOCKS:
        if text in ELSEWHERE:
            continue
        program = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, here(text, tandem_up)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert '"status":4' not in done.stdout.replace(" ", ""), f"{text}\n{done.stdout}"


def test_the_blocks_not_run_here_are_still_in_the_readme() -> None:
    texts = {text for _, text in BLOCKS}
    assert ELSEWHERE.keys() <= texts
    assert {language for language, _ in BLOCKS} <= {"sh", "python"}


def test_every_make_command_of_the_readme_exists() -> None:
    for target in re.findall(
        r"\bmake ([a-z]+)", " ".join(text for _, text in BLOCKS) + " ".join(re.findall(r"`([^`]+)`", README))
    ):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_spec_in_the_training_guide_is_one_that_the_api_takes() -> None:
    from models.job import JobSpec

    (spec,) = (
        found["text"]
        for found in FENCE.finditer((ROOT / "docs/training.md").read_text())
        if found["language"] == "json"
    )
    assert JobSpec.model_validate_json(spec).training.epochs == 12


def test_the_operations_guide_lists_every_setting() -> None:
    from workers.settings import Settings

    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} == Settings.model_fields.keys()
