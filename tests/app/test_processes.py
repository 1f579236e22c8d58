"""Several processes on one port: they share the requests, keep in step, and one that dies is replaced."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from app.server import environment_of, refuse_too_many
from models.engine import is_installed
from tests.app.serving import Registered, registered, settings_in, until
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.gpus import visible_gpus

PROCESSES = 2
PICTURE = np.zeros((8, 8), int).tolist()


@dataclass(frozen=True)
class Served:
    """A server of several processes, and where models are registered beside it."""

    url: str
    pid: int
    services: Any

    def fresh(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Over a connection of its own, so that the kernel chooses a process anew."""
        return httpx.request(method, self.url + path, timeout=30, **given)

    def predict(self, model: str, **given: Any) -> httpx.Response:
        return self.fresh(
            "POST", "/predict", json={"model": model, "inputs": [PICTURE], "engine": "torch", **given}
        )

    def processes(self) -> list[psutil.Process]:
        """Those that live."""
        found = psutil.Process(self.pid).children(recursive=True)
        return [one for one in found if _is_child(one)]


def _is_child(process: psutil.Process) -> bool:
    try:
        return "app.child" in process.cmdline()
    except psutil.NoSuchProcess:  # dead, reaped or not
        return False


def environment(folder: Path, **changes: str) -> dict[str, str]:
    settings = settings_in(folder, log_level="warning", measure_engines=False)
    own = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return {**own, **settings.environment(), **changes}


@contextmanager
def served(folder: Path, **changes: str) -> Iterator[Served]:
    settings = settings_in(folder)
    settings.artifacts_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    database.migrate()
    command = [sys.executable, "-m", "app", "api", "--port", "0", "--processes", str(PROCESSES)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(folder, **changes)
    ) as process:
        assert process.stdout is not None
        ready = re.search(r"ready on (\S+) in 2 processes", process.stdout.readline())
        assert ready is not None
        services = SimpleNamespace(database=database, store=ArtifactStore(settings.artifacts_dir))
        try:
            yield Served(ready[1], process.pid, services)
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            _, left = psutil.wait_procs(children, timeout=5)
            assert not left
            database.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("two")) as server:
        yield server


def counted(server: Served, name: str, **labels: str) -> dict[str, float]:
    """The values of a series by process."""
    found = {}
    for line in server.fresh("GET", "/metrics").text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            process = re.search(r'process="(\d+)"', line)
            assert process is not None
            found[process[1]] = float(line.rpartition(" ")[2])
    return found


def test_the_processes_share_the_requests_and_any_of_them_tells_of_all(two: Served) -> None:
    registered(two.services, name="shared")
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: two.predict("shared"), range(60)))
    assert {one.status_code for one in answers} == {200}
    for _ in range(5):
        by_process = counted(two, "tandem_predictions_total", model="shared", engine="torch")
        assert by_process.keys() == {"0", "1"}
        assert sum(by_process.values()) == 60
        assert min(by_process.values()) > 5  # 30 of 60 are expected of each
        (stats,) = two.fresh("GET", "/v2/models/shared/stats").json()["model_stats"]
        assert stats["inference_count"] == 60
        assert stats["inference_stats"]["success"]["count"] == 60
    assert counted(two, "tandem_model_cache_models").keys() == {"0", "1"}


def test_an_alias_that_moves_is_followed_by_all_at_once(two: Served) -> None:
    versions: list[Registered] = [registered(two.services, name="moving", seed=seed) for seed in range(2)]
    for turn in range(6):
        version = versions[turn % 2].version
        assert two.fresh("PUT", "/models/moving/aliases/live", json={"version": version}).status_code == 200
        found = [two.predict("moving@live").json()["model"]["version"] for _ in range(12)]
        assert found == [version] * 12


def test_an_unloaded_model_answers_in_no_process_until_it_is_loaded(two: Served) -> None:
    registered(two.services, name="resting")
    assert {two.predict("resting").status_code for _ in range(12)} == {200}
    assert two.fresh("POST", "/v2/repository/models/resting/unload").status_code == 200
    assert {two.predict("resting").status_code for _ in range(12)} == {503}
    assert two.fresh("POST", "/v2/repository/models/resting/load").status_code == 200
    assert {two.predict("resting").status_code for _ in range(12)} == {200}


def assert_all_answer_and_one_was_replaced(server: Served, before: set[int]) -> None:
    """Of the processes that were there before; they serve the model `steady`."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: server.predict("steady"), range(24)))
    assert {one.status_code for one in answers} == {200}
    after = {one.pid for one in server.processes()}
    assert len(after) == PROCESSES
    assert len(after & before) == PROCESSES - 1


def test_one_that_is_killed_is_replaced_and_who_connects_meanwhile_waits(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        registered(server.services, name="steady")
        assert server.predict("steady").status_code == 200
        before = {one.pid for one in server.processes()}
        assert len(before) == PROCESSES
        os.kill(min(before), signal.SIGKILL)
        time.sleep(0.3)
        assert_all_answer_and_one_was_replaced(server, before)
        assert counted(server, "tandem_predictions_total", model="steady").keys() == {"0", "1"}


def test_one_that_hangs_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path, TANDEM_HUNG_AFTER_S="5") as server:
        registered(server.services, name="steady")
        before = {one.pid for one in server.processes()}
        hung = min(before)
        os.kill(hung, signal.SIGSTOP)
        assert until(lambda: hung not in {one.pid for one in server.processes()}, within_s=20)
        assert_all_answer_and_one_was_replaced(server, before)


def test_what_jax_has_compiled_is_there_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    compiled = tmp_path / "cache/jax"

    def programs() -> set[str]:
        return {path.name for path in compiled.glob("*-cache")}

    with served(tmp_path) as server:
        model = registered(server.services, name="compiled")
        assert {server.predict("compiled", engine="jax").status_code for _ in range(8)} == {200}
        assert until(lambda: len(programs()) >= 7)  # batches of 1, 2, 4, ... 64
    first = programs()
    with served(tmp_path) as server:
        assert {server.predict(model.name, engine="jax").status_code for _ in range(8)} == {200}
        time.sleep(1)
    assert programs() == first


@pytest.mark.skipif(not is_installed("openvino"), reason="the server has no such engine without it")
def test_a_graph_that_was_exported_is_there_for_the_next_start(tmp_path: Path) -> None:
    def answers(server: Served) -> tuple[str, bool]:
        """What all processes say, and whether any of them has torch."""
        replies = [server.predict("kept", engine="openvino") for _ in range(8)]
        maps = [Path(f"/proc/{one.pid}/maps").read_text() for one in server.processes()]
        assert {reply.status_code for reply in replies} == {200}
        (said,) = {json.dumps(reply.json()["predictions"]) for reply in replies}
        return said, any("libtorch" in mapped for mapped in maps)

    def graphs() -> list[int]:
        return [one.stat().st_ino for one in (tmp_path / "cache/graphs").glob("*.zip")]

    with served(tmp_path) as server:
        registered(server.services, name="kept")
        found = answers(server)
    written = graphs()
    assert len(written) == 1
    with served(tmp_path) as server:
        assert answers(server) == found
    assert graphs() == written
    assert not found[1]


def refused(folder: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "api", "--processes", "2", *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(folder, **changes), timeout=60, check=False
    )


def test_a_port_is_not_shared_with_another_server(two: Served, tmp_path: Path) -> None:
    port = two.url.rpartition(":")[2]
    again = refused(tmp_path, "--port", port)
    assert again.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in again.stderr


def test_a_server_that_cannot_start_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    failed = refused(tmp_path, "--port", "0")
    assert failed.returncode == 1
    assert "artifacts" in failed.stderr
    assert "ready" not in failed.stdout


def test_processes_do_not_share_a_gpu(tmp_path: Path) -> None:
    failed = refused(tmp_path, "--port", "0", TANDEM_SERVING_DEVICE="cuda", CUDA_VISIBLE_DEVICES="0")
    assert failed.returncode == 1
    assert "there are 1 for 2" in failed.stderr


def test_each_process_sees_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    settings = settings_in(tmp_path, serving_device="cuda", processes=2)
    refuse_too_many(settings)
    found = [environment_of(settings, number)["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert found == ["3", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 0\necho 1\necho 2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus() == ["0", "1", "2"]
    fake.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


def test_no_answer_is_anothers_while_all_processes_are_busy(two: Served) -> None:
    model = registered(two.services, name="crowded")
    pictures = np.random.default_rng(0).integers(0, 17, (300, 8, 8))
    expected = [
        two.predict(model.name, inputs=[one.tolist()], **{"return": ["logits"]}).json()
        for one in pictures[:40]
    ]

    def asked(index: int) -> Any:
        content = json.dumps(
            {
                "model": model.name,
                "inputs": [pictures[index].tolist()],
                "engine": "torch",
                "return": ["logits"],
            }
        )
        return two.fresh("POST", "/predict", content=content).json()

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(asked, range(40)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            one["predictions"][0]["logits"], other["predictions"][0]["logits"], rtol=1e-5, atol=1e-5
        )
