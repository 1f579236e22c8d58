"""Settings: read from the environment, with defaults that follow from each other."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)


def test_everything_lasting_is_under_the_data_folder(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/tandem.db"
    for folder in ("artifacts", "checkpoints", "work", "uploads", "cache"):
        assert getattr(settings, f"{folder}_dir") == tmp_path / folder


def test_relative_folders_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_dir=Path("mine"), datasets_dir=Path("sets"))
    assert (settings.data_dir, settings.datasets_dir) == (tmp_path / "mine", tmp_path / "sets")
    assert settings.database_url == f"sqlite:///{tmp_path}/mine/tandem.db"


def test_the_environment_is_read(tmp_path, monkeypatch):
    given = {
        "DATA_DIR": str(tmp_path),
        "LEASE_S": "100",
        "WARM_SPARE": "false",
        "ALLOWED_HOSTS": "a.example, b.example",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"TANDEM_{name}", value)
    settings = Settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/tandem.db"
    assert (settings.lease_s, settings.warm_spare) == (100, False)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.self_fence_s == pytest.approx(70)


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("TANDEM_API_KEY", "")
    monkeypatch.setenv("TANDEM_DATABASE_URL", "")
    settings = Settings()
    assert settings.api_key is None
    assert settings.database_url.startswith("sqlite:////")


def test_the_database_can_be_elsewhere(tmp_path):
    url = "postgresql://tandem@db/tandem"
    assert Settings(data_dir=tmp_path, database_url=url).database_url == url


def test_the_key_does_not_show():
    assert "secret" not in repr(Settings(api_key="pre.secret"))


@pytest.mark.parametrize("key", ["schlüssel", "ключ", "two\nlines", " padded", "\x7f"])
def test_a_key_that_no_header_can_bring_is_refused_without_showing_it(key):
    with pytest.raises(ValidationError, match="ASCII only") as caught:
        Settings(api_key=key)
    assert key not in str(caught.value)
    assert repr(key) not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beat_s": 10, "lease_s": 20},
        {"lease_s": 0},
        {"max_attempts": 0},
        {"slots": 0},
        {"device": "tpu"},
        {"port": 70_000},
        {"typo": 1},
    ],
)
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)
