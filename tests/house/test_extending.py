"""The walk-through in docs/extending.md, walked: its blocks make an architecture that trains in both frameworks."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/extending.md").read_text().partition("## An architecture\n")[2].partition("\n## ")[0]
PACKAGES = ("app", "models", "workers")
FILES = tuple(f"models/cross/{module}.py" for module in ("spec", "torch", "jax"))
CATALOG = "models/catalog.py"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def with_lines(catalog: str, added: list[str]) -> str:
    """The catalog with an import among its imports, in their order, and a member at the end of its union."""
    imported, member = added
    lines = catalog.splitlines(keepends=True)
    place = next(
        index for index, line in enumerate(lines) if line.startswith("from models.") and line > imported
    )
    lines.insert(place, f"{imported}\n")
    members = [index for index, line in enumerate(lines) if re.fullmatch(r"    \| \w+Spec\n", line)]
    lines.insert(members[-1] + 1, f"{member}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which somebody has done what the guide says, and nothing else."""
    copy = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "models/cross").mkdir()
    (copy / "models/cross/__init__.py").touch()
    for path, text in zip(FILES, blocks("python"), strict=True):
        (copy / path).write_text(text)
    (diff,) = blocks("diff")
    added = [line.removeprefix("+") for line in diff.splitlines()]
    (copy / CATALOG).write_text(with_lines((ROOT / CATALOG).read_text(), added))
    return copy


def files(root: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(root)): path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_guide_names_every_file_that_it_makes() -> None:
    assert [path for path in FILES if f"`{path}`" in GUIDE] == list(FILES)


def test_an_architecture_is_one_folder_and_a_line_of_the_catalog_with_its_import(extended: Path) -> None:
    before, after = files(ROOT), files(extended)
    assert after.keys() - before.keys() == {*FILES, "models/cross/__init__.py"}
    assert before.keys() <= after.keys()
    changed = [name for name in before if not filecmp.cmp(before[name], after[name], shallow=False)]
    assert changed == [CATALOG]
    old, new = (root[CATALOG].read_text().splitlines() for root in (before, after))
    edits = [line for line in unified_diff(old, new, n=0) if not line.startswith(("---", "+++", "@@"))]
    assert edits == ["+from models.cross.spec import CrossSpec", "+    | CrossSpec"]


def test_what_the_guide_shows_keeps_the_house_rules(extended: Path) -> None:
    for check in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *check, "models/cross", CATALOG]
        done = subprocess.run(command, cwd=extended, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_architecture_trains_in_both_frameworks_to_the_same_weights(extended: Path) -> None:
    program = Path(__file__).with_name("trained_in_both.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), "cross"],
        cwd=extended,
        env={**os.environ, "PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
