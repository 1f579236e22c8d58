"""What JAX has compiled: it is found again, and the longest unused makes room."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers import program_cache
from workers.settings import Settings

PROGRAM = "import jax; print(jax.jit(lambda x: x * {factor} + 1)(2.0))"
KB = 1000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv(program_cache.VARIABLE, raising=False)
    return Settings(data_dir=tmp_path, program_cache_bytes=3 * KB)


def entry(settings: Settings, name: str, hours_unused: float, *, read_hours_ago: float | None = None) -> Path:
    path = settings.cache_dir / "jax" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(KB))
    now = time.time()
    read = hours_unused if read_hours_ago is None else read_hours_ago
    os.utime(path, (now - read * 3600, now - hours_unused * 3600))
    return path


def compiled(settings: Settings, factor: int) -> set[str]:
    """The entries that are there once a process has run this program."""
    environment = {**os.environ, **program_cache.environment(settings), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(factor=factor)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(said.stdout) == 2 * factor + 1
    return {path.name for path in (settings.cache_dir / "jax").glob("jit__lambda*-cache")}


def test_what_cannot_be_deleted_is_passed_over(settings: Settings) -> None:
    folder = settings.cache_dir / "jax" / "folder-cache"
    (folder / "inside").mkdir(parents=True)
    os.utime(folder, (0, 0))
    old = [entry(settings, f"{number}-cache", 9 - number) for number in range(4)]
    program_cache.make_room(settings)
    assert not old[0].exists()


def test_the_longest_unused_make_room(settings: Settings) -> None:
    oldest, old = entry(settings, "a-cache", 9), entry(settings, "b-cache", 8)
    read = entry(settings, "c-cache", 7, read_hours_ago=1)
    young, younger = entry(settings, "d-cache", 3), entry(settings, "e-cache", 2)
    other = entry(settings, "of-something-else", 99)
    program_cache.make_room(settings)
    assert [path.exists() for path in (oldest, old, read, young, younger, other)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_what_is_in_use_stays_even_if_it_is_too_much(settings: Settings) -> None:
    entries = [entry(settings, f"{number}-cache", 0) for number in range(5)]
    program_cache.make_room(settings)
    assert all(path.exists() for path in entries)


def test_without_a_cache_there_is_nothing_to_do(settings: Settings) -> None:
    program_cache.make_room(settings)
    assert not settings.cache_dir.exists()


def test_a_place_of_the_operators_own_is_left_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(program_cache.VARIABLE, str(tmp_path / "shared"))
    shared = tmp_path / "shared" / "a-cache"
    shared.parent.mkdir()
    shared.write_bytes(bytes(9 * KB))
    os.utime(shared, (0, 0))
    assert program_cache.environment(settings)[program_cache.VARIABLE] == str(shared.parent)
    program_cache.make_room(settings)
    assert shared.exists()


def test_jax_compiles_again_what_was_forgotten(settings: Settings) -> None:
    first = compiled(settings, 3)
    assert len(first) == 1
    assert compiled(settings, 3) == first
    for path in (settings.cache_dir / "jax").iterdir():
        os.utime(path, (0, 0))
    program_cache.make_room(settings.model_copy(update={"program_cache_bytes": 1}))
    assert not list((settings.cache_dir / "jax").glob("*-cache"))
    assert compiled(settings, 3) == first
    assert len(compiled(settings, 4)) == 2
