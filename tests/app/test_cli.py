"""The `tandem` command as people run it: a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.client import Tandem
from app.demo import READY_WITHIN_S
from models.framework import FRAMEWORKS
from models.weights import write_weights
from tests.models.exportable import exportable

EXAMPLES = Path(__file__).parents[2] / "examples"


def tandem(*arguments: str, url: str | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    command = [sys.executable, "-m", "app", *arguments]
    if url:
        environment["TANDEM_URL"] = url
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment, timeout=110, check=False
    )


def test_help_answers_without_importing_anything_heavy() -> None:
    heavy = (
        "{'torch', 'jax', 'numpy', 'fastapi', 'sqlalchemy', 'celery', 'httpx', 'pydantic', 'rich', 'uvicorn'}"
    )
    command = [sys.executable, "-c", f"import sys, app.cli; print({heavy} & sys.modules.keys())"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"
    began = time.monotonic()
    assert tandem("--help").returncode == 0
    assert time.monotonic() - began < 2.0  # 0.1 s when the machine does nothing else


@pytest.mark.parametrize("command", ["up", "api"])
def test_strangers_are_not_let_in_without_a_key(command: str) -> None:
    result = tandem(command, "--host", "0.0.0.0", "--port", "0")
    assert result.returncode == 1
    assert "TANDEM_API_KEY" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = tandem("up", "--port", port, "--data", str(tmp_path))
    assert result.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_wrong_setting_is_one_clear_line(tmp_path: Path) -> None:
    environment = {**os.environ, "TANDEM_SLOTS": "none"}
    command = [sys.executable, "-m", "app", "up", "--port", "0", "--data", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 1
    assert "TANDEM_SLOTS" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    result = tandem("jobs", "list", "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Tandem at http://127.0.0.1:9 does not answer")


def test_a_job_is_trained_watched_and_served_from_the_command_line(tandem_up: str, tmp_path: Path) -> None:
    spec = {
        "framework": "torch",
        "dataset": "digits",
        "model": {"architecture": "linear"},
        "training": {"epochs": 2},
    }
    trained = tandem("train", "-", "--follow", url=tandem_up, stdin=json.dumps({**spec, "name": "from-cli"}))
    assert trained.returncode == 0, trained.stderr
    job_id = trained.stdout.splitlines()[0]
    assert re.search(r"from-cli@1: .*test_accuracy 0\.\d+", trained.stdout)
    assert "epoch 2" in trained.stdout

    assert json.loads(tandem("jobs", "show", job_id, url=tandem_up).stdout)["status"] == "succeeded"
    assert job_id in tandem("jobs", "list", "--status", "succeeded", url=tandem_up).stdout
    assert tandem("jobs", "watch", job_id, url=tandem_up).returncode == 0
    assert tandem("jobs", "logs", job_id, url=tandem_up).returncode == 0
    again = tandem("jobs", "cancel", job_id, url=tandem_up)
    assert again.returncode == 1
    assert again.stderr.startswith("Error: ")

    predicted = tandem(
        "predict", "from-cli", str(EXAMPLES / "three.png"), "--engine", "jax", "--top-k", "2", url=tandem_up
    )
    assert predicted.returncode == 0, predicted.stderr
    assert "from-cli@1, trained in torch, computed in jax" in predicted.stdout

    assert "from-cli" in tandem("models", "list", url=tandem_up).stdout
    assert json.loads(tandem("models", "show", "from-cli", url=tandem_up).stdout)["name"] == "from-cli"
    assert tandem("models", "alias", "from-cli", "champion", "1", url=tandem_up).returncode == 0
    file = tmp_path / "w.safetensors"
    downloaded = tandem("models", "download", "from-cli", "1", "--output", str(file), url=tandem_up)
    assert downloaded.returncode == 0, downloaded.stderr
    assert file.stat().st_size > 0


def test_a_model_is_served_as_the_command_line_says_and_deleted(tandem_up: str, tmp_path: Path) -> None:
    weights = tmp_path / "served.safetensors"
    write_weights(exportable("cnn"), weights)
    assert tandem("models", "import", str(weights), "--name", "cli-served", url=tandem_up).returncode == 0
    engines = tandem("models", "engines", "cli-served", "1", url=tandem_up)
    assert engines.returncode == 0, engines.stderr
    assert set(FRAMEWORKS) <= {line.split()[0] for line in engines.stdout.splitlines()}
    assert "ms for 32" in engines.stdout

    def serving(*arguments: str) -> str:
        found = tandem("models", "serving", "cli-served", *arguments, url=tandem_up)
        return found.stdout.strip() if found.returncode == 0 else found.stderr

    assert (
        serving("--load", "pinned", "--max-batch-rows", "8")
        == "cli-served: pinned, rows in a batch: 8, waiting inputs: the server's"
    )
    assert "on_demand, rows in a batch: the server's" in serving(
        "--load", "on_demand", "--max-batch-rows", "default"
    )
    assert serving() == "cli-served: on_demand, rows in a batch: the server's, waiting inputs: the server's"
    assert "neither a number nor 'default'" in serving("--max-waiting", "many")
    assert serving("--load", "sometimes").startswith("Error: /serving/load: ")
    unknown = tandem("models", "precision", "cli-served", "1", "float16", url=tandem_up)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("Error: /serving/precision: ")
    plain = tandem("models", "precision", "cli-served", "1", "float32", url=tandem_up)
    assert plain.stdout.strip() == "cli-served@1 float32"

    kept = tandem("models", "delete", "cli-served", url=tandem_up, stdin="n\n")
    assert kept.returncode == 1
    assert "cli-served" in tandem("models", "list", url=tandem_up).stdout
    deleted = tandem("models", "delete", "cli-served", "--yes", url=tandem_up)
    assert deleted.stdout.strip() == "deleted: cli-served@1"
    assert "cli-served" not in tandem("models", "list", url=tandem_up).stdout

    workers = tandem("workers", url=tandem_up).stdout
    assert all(framework in workers for framework in FRAMEWORKS)


def test_a_refused_spec_is_one_clear_line(tandem_up: str) -> None:
    result = tandem("train", "-", url=tandem_up, stdin='{"framework": "torhc", "dataset": "digits"}')
    assert result.returncode == 1
    assert "torch" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "is not JSON" in tandem("train", "-", url=tandem_up, stdin="{").stderr


def test_datasets_are_uploaded_and_listed(tandem_up: str, tmp_path: Path) -> None:
    file = tmp_path / "line.csv"
    file.write_text("x,y\n" + "".join(f"{i},{2 * i}\n" for i in range(100)))
    options = ("--name", "line-from-cli", "--task", "tabular-regression", "--target", "y")
    uploaded = tandem("datasets", "upload", str(file), *options, url=tandem_up)
    assert uploaded.returncode == 0, uploaded.stderr
    listed = tandem("datasets", "list", url=tandem_up).stdout
    assert {"digits", "line-from-cli"} <= set(listed.split())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_up_is_ready_soon_and_leaves_no_process_behind(stop: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "up", "--port", "0", "--data", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    began = time.monotonic()
    ready = next(line for line in process.stdout if "ready on" in line)
    assert time.monotonic() - began < READY_WITHIN_S
    found = re.search(r"http://\S+", ready)
    assert found is not None
    with Tandem(found[0]) as client:
        assert client.ready()
        job = client.create_job(
            {
                "framework": "torch",
                "dataset": "digits",
                "model": {"architecture": "cnn"},
                "training": {"epochs": 500},
            }
        )
        next(event for event in client.follow(job.id) if event.type == "metric")
        family = descendants(process.pid)
        assert len(family) >= 3  # the broker, workers, a trainer
        process.send_signal(stop)
        assert process.wait(30) == 0
    process.stdout.close()
    assert [pid for pid in family if alive(pid)] == []


def descendants(pid: int) -> Sequence[int]:
    """The processes that this one started, and those they started."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [*children, *(pid for child in children for pid in descendants(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
