"""The files around the code say what is true: locks, Makefile, Dockerfile, compose file."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-gpu.lock", "requirements-mlserver.lock")
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)(\[[a-z0-9,-]+\])?==(?P<version>[^ ;]+)( ; .+)?$")


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text().splitlines()
    found = [PIN.match(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert all(found), f"{lock} holds a line that is no pin"
    return {pin["name"]: pin["version"] for pin in found if pin}


def wanted(*groups: str) -> set[str]:
    """The names in pyproject.toml's dependencies, and in these dependency groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = list(project["project"]["dependencies"])
    for group in groups:
        texts += project["dependency-groups"][group]
    return {re.split(r"[\[<>=;! ]", text, maxsplit=1)[0].lower() for text in texts}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(lock: str) -> None:
    assert not re.search(r"://|index-url|find-links|@ ", (ROOT / lock).read_text())


def test_the_locks_pin_every_dependency() -> None:
    assert wanted() <= pins("requirements.lock").keys()
    assert wanted("dev") <= pins("requirements-dev.lock").keys()


@pytest.mark.parametrize("lock", ["requirements-dev.lock", "requirements-gpu.lock"])
def test_all_locks_pin_the_same_versions(lock: str) -> None:
    assert pins("requirements.lock").items() <= pins(lock).items()


def test_containers_get_no_development_tools() -> None:
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & pins("requirements.lock").keys()


def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(re.findall(r"make ([a-z-]+)", shown)) == sorted(phony[1].split())


def test_setup_has_nothing_to_do_when_the_lock_has_not_changed(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in (".venv/bin/python", ".venv/bin/uv", ".venv/.setup"):
        (tmp_path / name).touch()
    command = ["make", "--question", "setup"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / ".venv/.setup").unlink()
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 1


def compose() -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


OURS = ("api", "worker-torch", "worker-jax", "worker-torch-gpu", "worker-jax-gpu")


def test_only_the_api_publishes_a_port_and_only_on_this_machine() -> None:
    published = {
        name: service["ports"] for name, service in compose()["services"].items() if "ports" in service
    }
    assert published.keys() == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


def test_the_stores_are_on_the_internal_network_only() -> None:
    described = compose()
    assert described["networks"]["backend"]["internal"]
    for name in ("redis", "postgres"):
        assert described["services"][name]["networks"] == ["backend"]
        assert described["services"][name]["healthcheck"]["test"]


def test_the_broker_forgets_no_message() -> None:
    command = compose()["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert "--requirepass" in command


@pytest.mark.parametrize("name", OURS)
def test_a_container_gets_longer_to_stop_than_a_trainer_to_save(name: str) -> None:
    service = compose()["services"][name]
    grace_s = float(service["environment"]["TANDEM_GRACE_S"])
    assert float(service["stop_grace_period"].removesuffix("s")) >= grace_s + 20


@pytest.mark.parametrize("name", OURS)
def test_our_containers_wait_for_the_stores_and_have_an_init(name: str) -> None:
    service = compose()["services"][name]
    assert service["init"] is True
    assert {store["condition"] for store in service["depends_on"].values()} == {"service_healthy"}
    assert service["depends_on"].keys() == {"redis", "postgres"}


def test_gpu_workers_start_only_when_asked_for() -> None:
    services = compose()["services"]
    assert {name for name, service in services.items() if "profiles" in service} == {
        "worker-torch-gpu",
        "worker-jax-gpu",
    }


def test_images_run_as_an_ordinary_user_and_tell_their_health() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = text.split("\nFROM ")
    assert re.search(r"^USER tandem$", stages[1], re.MULTILINE)
    assert not any("USER root" in stage for stage in stages)
    for target in ("base AS api", "base AS worker"):
        (stage,) = (stage for stage in stages if stage.startswith(target))
        assert "HEALTHCHECK" in stage
        assert "CMD" in stage


def test_the_dockerfile_needs_no_buildkit() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"RUN --mount|--chmod|--link|<<|^# syntax", text, re.MULTILINE)
