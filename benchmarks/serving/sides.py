"""The servers, started one after the other, each with the same question."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.serving.memory import family
from benchmarks.serving.peers import HERE, LIMITS, PEERS, Peer
from benchmarks.serving.works import Work
from models.frameworks.torch.exporting.graph import module
from workers import processes
from workers.processes import Process

PORT = 8790
START_S = 120


@dataclass(frozen=True)
class Side:
    """A server that runs: how to ask it and what it must say."""

    name: str
    url: str
    body: bytes
    check: Callable[[bytes], bool]
    pid: int
    started_s: float
    restarted_s: float | None = None
    """The same once more: what the first start has compiled or exported is there then."""


def sides(work: Work, script: Path, folder: Path, options: argparse.Namespace) -> Iterator[Side]:
    for peer in PEERS:
        if peer.name in options.peers:
            with _peer(peer, work, script, folder) as side:
                yield side
    for engine in options.engines:
        for count in options.processes:
            with _tandem(work, engine, count, folder) as side:
                yield side


@contextmanager
def _peer(peer: Peer, work: Work, script: Path, folder: Path) -> Iterator[Side]:
    bin = peer.bin()
    own = folder / f"{peer.name}-{work.name}"
    own.mkdir()
    environment = {
        **os.environ,
        "BENCH_MODEL": str(script),
        "BENCH_WORK": work.name,
        "BENCH_THREADS": str(peer.threads),
        "OMP_NUM_THREADS": str(peer.threads),
        "PYTHONPATH": str(HERE),
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_DO_NOT_TRACK": "1",
    }
    log = own / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        command = peer.command(bin, own, PORT)
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, cwd=own, start_new_session=True
        )
    body = json.dumps(peer.body(work.value)).encode()
    label = None if peer.name in LIMITS else _label(work)
    side = Side(
        peer.name,
        f"http://127.0.0.1:{PORT}{peer.path}",
        body,
        lambda answer: label is None or peer.label(json.loads(answer)) == label,
        process.pid,
        0.0,
    )
    try:
        yield _first_answer(side, began, process, log)
    finally:
        _end(process)


def _end(process: Process) -> None:
    """With all that it started, in sessions of their own or not."""
    started = family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)


@contextmanager
def _tandem(work: Work, engine: str, count: int, folder: Path) -> Iterator[Side]:
    """The API alone, on the data of the server that trained: as it runs where workers have machines of their own."""
    shutil.rmtree(folder / "data/cache", ignore_errors=True)
    with _started_tandem(work, engine, count, folder) as first:
        pass
    with _started_tandem(work, engine, count, folder) as side:
        chosen = {"serving": {"precision": engine.partition("-")[2] or "float32"}}
        address = f"http://127.0.0.1:{PORT}/models/{work.model}/versions/1"
        httpx.patch(address, json=chosen, timeout=120).raise_for_status()
        for _ in range(50):
            httpx.post(side.url, content=side.body, timeout=60).raise_for_status()
        yield replace(side, started_s=first.started_s, restarted_s=side.started_s)


@contextmanager
def _started_tandem(work: Work, engine: str, count: int, folder: Path) -> Iterator[Side]:
    command = [sys.executable, "-m", "app", "api", "--port", str(PORT), "--processes", str(count)]
    environment = {**os.environ, "TANDEM_DATA_DIR": str(folder / "data"), "TANDEM_LOG_LEVEL": "warning"}
    log = folder / f"tandem-{engine}-{count}-{work.name}.log"
    began = time.monotonic()
    with log.open("wb") as out:
        process = processes.spawn(command, environment=environment, stdout=out, stderr=out)
    body = {"model": work.model, "inputs": [work.item], "engine": engine.partition("-")[0]}
    classes = work.file.card.classes
    assert classes is not None
    label = classes[_label(work)]
    side = Side(
        f"tandem {engine}" + (f" x{count}" if count > 1 else ""),
        f"http://127.0.0.1:{PORT}/predict",
        json.dumps(body).encode(),
        lambda answer: bool(json.loads(answer)["predictions"][0]["label"] == label),
        process.pid,
        0.0,
    )
    try:
        yield _first_answer(side, began, process, log)
    finally:
        process.send_signal(signal.SIGINT)
        processes.await_end(process, 10)


def _first_answer(side: Side, began: float, process: Any, log: Path) -> Side:
    """Waits for it, and checks it."""
    while True:
        try:
            answer = httpx.post(
                side.url, content=side.body, headers={"Content-Type": "application/json"}, timeout=30
            )
            if answer.status_code == 200:
                break
            problem = answer.text
        except httpx.TransportError as error:
            problem = str(error)
        if process.poll() is not None or time.monotonic() - began > START_S:
            raise SystemExit(f"{side.name} did not answer: {problem}\n{log.read_text()[-3000:]}")
        time.sleep(0.02)
    seconds = time.monotonic() - began
    if not side.check(answer.content):
        raise SystemExit(f"{side.name} gives a wrong answer: {answer.text[:500]}")
    return replace(side, started_s=seconds)


def _label(work: Work) -> int:
    x = work.file.card.preprocessing.batch([work.item])
    with torch.inference_mode():
        return int(module(work.file).eval()(torch.from_numpy(x)).argmax())
