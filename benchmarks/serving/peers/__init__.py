"""Other servers: how each is installed, started and asked. What they run is the other files here, in environments of
their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = Path(sys.prefix) / "peers"
TORCH = ("torch", "torchvision", "pillow")


@dataclass(frozen=True)
class Peer:
    """`packages`: installed for it, none to run in Tandem's environment. `command` gets its `bin` folder, a folder to
    write to and the port. `body` makes a request of one input, `label` reads the answer."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], Sequence[str]]
    path: str = "/predict"
    body: Callable[[Any], Mapping[str, Any]] = lambda value: {"input": value}
    label: Callable[[Any], int] = lambda answer: int(answer["label"])
    threads: int = 1
    environment: Mapping[str, str] | None = None

    def bin(self) -> Path:
        """The folder with its interpreter; made now if it is not there yet."""
        if not self.packages:
            return Path(sys.executable).parent
        home = ENVIRONMENTS / self.name
        if not (home / "ready").exists():
            uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home], check=True)
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", home / "bin/python"]
            subprocess.run([*install, *self.packages], check=True)
            (home / "ready").touch()
        return home / "bin"


def _uvicorn(module: str, *options: str) -> Callable[[Path, Path, int], Sequence[str]]:
    return lambda bin, _, port: [
        str(bin / "python"), "-m", "uvicorn", f"{module}:app", "--app-dir", str(HERE), "--port", str(port),
        "--log-level", "error", "--no-access-log", *options,
    ]  # fmt: skip


def _litserve(bin: Path, folder: Path, port: int) -> Sequence[str]:
    return [str(bin / "python"), str(HERE / "litserve_app.py"), str(port)]


def _bentoml(bin: Path, folder: Path, port: int) -> Sequence[str]:
    return [
        str(bin / "bentoml"),
        "serve",
        "bentoml_app:Bench",
        "--working-dir",
        str(HERE),
        "--port",
        str(port),
    ]


def _mlserver(bin: Path, folder: Path, port: int) -> Sequence[str]:
    settings = {
        "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 2, "debug": False,
        "host": "127.0.0.1",
    }  # fmt: skip
    model = {
        "name": "bench", "implementation": "mlserver_app.Bench", "max_batch_size": 32, "max_batch_time": 0.001,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(bin / "mlserver"), "start", str(folder)]


def _torchserve(bin: Path, folder: Path, port: int) -> Sequence[str]:
    archive = [
        bin / "torch-model-archiver", "--model-name", "bench", "--version", "1.0", "--force",
        "--handler", HERE / "torchserve_handler.py", "--extra-files", HERE / "model.py", "--export-path", folder,
    ]  # fmt: skip
    path = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(archive, check=True, env=path, capture_output=True)
    options = {
        "inference_address": f"http://127.0.0.1:{port}", "management_address": f"http://127.0.0.1:{port + 1}",
        "metrics_address": f"http://127.0.0.1:{port + 2}", "grpc_inference_port": port + 3,
        "grpc_management_port": port + 4, "disable_token_authorization": "true",
        "models": json.dumps(
            {"bench": {"1.0": {"defaultVersion": True, "marName": "bench.mar", "minWorkers": 2, "maxWorkers": 2,
                               "batchSize": 32, "maxBatchDelay": 1}}}
        ),
    }  # fmt: skip
    (folder / "config.properties").write_text("\n".join(f"{name}={value}" for name, value in options.items()))
    return [
        str(bin / "torchserve"), "--start", "--foreground", "--model-store", str(folder), "--models", "bench.mar",
        "--ts-config", str(folder / "config.properties"), "--disable-token-auth",
    ]  # fmt: skip


def _row_of_v2(value: Any) -> Mapping[str, Any]:
    one = (
        {"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": [value]}
        if isinstance(value, str)
        else {"name": "x", "shape": [1, len(value)], "datatype": "FP32", "data": value}
    )
    return {"inputs": [one]}


LIMITS = ("parse-only", "parse-only x2")
"""Peers that only parse, in one process and in two: what a server can give at most."""
PEERS: tuple[Peer, ...] = (
    Peer("parse-only", (), _uvicorn("parse_only"), label=lambda answer: -1),
    Peer("parse-only x2", (), _uvicorn("parse_only", "--workers", "2"), label=lambda answer: -1),
    Peer("fastapi", (), _uvicorn("naive_fastapi"), threads=1),
    Peer("litserve", ("litserve", *TORCH), _litserve),
    Peer(
        "bentoml",
        ("bentoml", *TORCH),
        _bentoml,
        body=lambda value: {"input": [value]},
        label=lambda answer: int(answer[0]["label"]),
    ),
    Peer(
        "mlserver",
        ("mlserver", "uvloop<0.22", *TORCH),
        _mlserver,
        path="/v2/models/bench/infer",
        body=_row_of_v2,
        label=lambda answer: int(answer["outputs"][0]["data"][0]),
    ),
    Peer(
        "torchserve",
        ("torchserve", "torch-model-archiver", "captum", "nvgpu", "pyyaml", "setuptools<81", "wheel", *TORCH),
        _torchserve,
        path="/predictions/bench",
    ),
)
