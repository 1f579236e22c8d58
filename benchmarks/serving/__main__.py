"""Tandem and other servers, one after the other, on the same weights.

    python -m benchmarks.serving                       all of it
    python -m benchmarks.serving --work image --peers bentoml --connections 64 --seconds 3

`tiny` is an MLP for rows of 32 numbers in JSON: what a server itself costs. `image` is ResNet-18 for 32x32 pictures,
each a PNG in base64. Tandem trains both first. Peers get the same network as a TorchScript file with BatchNorm folded,
two processes of one thread, and batches of up to 32 that wait for nothing where they can be told so.
Tandem serves from each of its engines, and from OpenVINO in bfloat16; and in two processes, `x2`. `parse-only` is a raw
ASGI server that parses the body and answers at once, in one process or in two;
`bare loop` is the folded network, or OpenVINO in float32, without a server, in two threads.

Every server starts anew, the first answer is timed from there, and three seconds of load warm it up. Tandem starts
twice: the second time it finds what it has compiled or exported. The load comes from this machine, from wrk where it is
installed (Python else), and shares its cores. One answer of each server is checked before, with Python every one.
"""

import argparse
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from rich.console import Console

from app.client import Tandem
from app.demo import server
from benchmarks.load import Load, load
from benchmarks.serving.memory import family, resident_mb
from benchmarks.serving.peers import HERE, PEERS, Peer
from benchmarks.serving.wrk import wrk
from models.engine import Definition, is_installed, load_server
from models.frameworks.torch.exporting.graph import module
from models.weights import WeightsFile, read_weights
from workers import processes
from workers.processes import Process

PORT = 8790
START_S = 120
WARM_UP_S = 3.0
BATCH = 32
LIMITS = ("parse-only", "parse-only x2")


@dataclass(frozen=True)
class Work:
    """A model that has been trained, and a question to it."""

    name: str
    model: str
    file: WeightsFile
    value: Any
    item: Any
    """The question as Tandem takes it."""


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


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found: dict[tuple[str, str, int], Load] = {}
        with server(folder / "data", Console(quiet=True)) as url:
            works = [MAKERS[name](url, folder) for name in options.work]
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what the peers serve best
        for work in works:
            print(f"{work.name}:", flush=True)
            script = _script(work, folder)
            if work.name == "image":
                for name, rate in _bare_loops(script, work.file):
                    print(f"  {name}, batch {BATCH}, 2 threads: {rate:.0f} samples/s", flush=True)
            for side in _sides(work, script, folder, options):
                _measured(side, 16, WARM_UP_S)
                for connections in options.connections:
                    one = _measured(side, connections, options.seconds)
                    found[work.name, side.name, connections] = one
                    print(f"  {side.name:<18} {connections:>3} connections  {one}", flush=True)
                print(f"  {side.name:<18} {_start(side)}, {resident_mb(side.pid):.0f} MB", flush=True)
            _ratios(work.name, found, options.connections)


def _start(side: Side) -> str:
    again = "" if side.restarted_s is None else f", of the next start after {side.restarted_s:.1f} s"
    return f"first answer after {side.started_s:.1f} s{again}"


def _measured(side: Side, connections: int, seconds: float) -> Load:
    if shutil.which("wrk"):
        return wrk(side.url, side.body, connections=connections, seconds=seconds)
    return load(side.url, side.body, side.check, connections=connections, seconds=seconds)


def _ratios(work: str, found: Mapping[tuple[str, str, int], Load], connections: list[int]) -> None:
    names = {name for kind, name, _ in found if kind == work}
    peers = names - set(LIMITS) - {name for name in names if name.startswith("tandem")}
    for count in connections:
        if not peers:
            return
        best = max(peers, key=lambda name: found[work, name, count].rate)
        for name in sorted(names - peers - set(LIMITS)):
            ours, theirs = found[work, name, count], found[work, best, count]
            said = f"{name} {count:>3} connections: {ours.rate / theirs.rate:.2f} of {best}"
            quickest = min(peers, key=lambda one: found[work, one, count].p50_ms)
            said += f", p50 {ours.p50_ms / found[work, quickest, count].p50_ms:.2f} of {quickest}'s"
            bare = LIMITS[name.endswith(" x2")]
            if (limit := found.get((work, bare, count))) is not None:
                said += f", {ours.rate / limit.rate:.2f} of {bare}"
            print(f"  ratio: {said}", flush=True)


def _sides(work: Work, script: Path, folder: Path, options: argparse.Namespace) -> Iterator[Side]:
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


def _script(work: Work, folder: Path) -> Path:
    """The network as a TorchScript file: traced, BatchNorm folded, frozen."""
    x = torch.from_numpy(np.concatenate([work.file.card.preprocessing.batch([work.item])] * 2))
    frozen = torch.jit.freeze(torch.jit.trace(module(work.file).eval(), x))
    path = folder / f"{work.name}.pt"
    torch.jit.save(frozen, path)
    return path


def _bare_loops(script: Path, file: WeightsFile) -> Iterator[tuple[str, float]]:
    """Pictures per second of two threads that do nothing but run batches: of the folded network, and of OpenVINO."""
    torch.set_num_threads(1)
    network = torch.jit.load(script)
    x = np.zeros((BATCH, 32, 32, 3), np.uint8)

    def folded() -> None:
        torch.set_flush_denormal(True)  # of this thread
        with torch.inference_mode():
            network(torch.from_numpy(x))

    yield "bare loop", _rate(folded)
    if is_installed("openvino"):
        card = file.card
        definition = Definition(card.model, card.signature, card.preprocessing.normalisation)
        predictor = load_server("openvino").predictor(definition, file.weights, device="cpu")
        yield "bare loop of openvino", _rate(lambda: predictor.logits(x))


def _rate(batch: Callable[[], object], seconds: float = 5.0) -> float:
    counts = [0, 0]

    def run(thread: int) -> None:
        while time.monotonic() < until:
            batch()
            counts[thread] += BATCH

    for _ in range(4):
        batch()
    began = time.monotonic()
    until = began + seconds
    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def tiny(url: str, folder: Path) -> Work:
    x = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    spec = {"architecture": "mlp", "hidden": [64]}
    file = _trained(url, folder, "tiny", "tabular-classification", x, y, spec, epochs=3)
    row = x[0].tolist()
    return Work("tiny", "tiny", file, row, row)


def image(url: str, folder: Path) -> Work:
    """Pictures whose class is where they are bright."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 800)
    x = generator.integers(0, 120, (800, 32, 32, 3), dtype=np.uint8)
    for picture, place in zip(x, y, strict=True):
        row, column = divmod(int(place), 2)
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 100
    spec = {"architecture": "resnet18", "stem": "cifar"}
    file = _trained(url, folder, "image", "image-classification", x, y, spec, epochs=2)
    png = io.BytesIO()
    Image.fromarray(x[0]).save(png, "PNG")
    text = base64.b64encode(png.getvalue()).decode()
    return Work("image", "image", file, text, {"image": text})


def _trained(
    url: str,
    folder: Path,
    name: str,
    task: str,
    x: np.ndarray,
    y: np.ndarray,
    spec: Mapping[str, Any],
    epochs: int,
) -> WeightsFile:
    np.savez(folder / f"{name}.npz", x=x, y=y)
    with Tandem(url) as tandem:
        tandem.upload_dataset(folder / f"{name}.npz", name=name, task=task)
        job = tandem.create_job(
            {
                "framework": "torch",
                "dataset": name,
                "model": spec,
                "training": {"epochs": epochs},
                "name": name,
            }
        )
        assert tandem.wait(job.id).status == "succeeded"
        return read_weights(tandem.download_weights(name, 1, folder / f"{name}.safetensors"))


MAKERS: Mapping[str, Callable[[str, Path], Work]] = {"tiny": tiny, "image": image}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in PEERS]
    engines = ["torch", "jax", "openvino", "openvino-bfloat16"]
    parser.add_argument("--work", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--peers", nargs="*", choices=names, default=names)
    parser.add_argument("--engines", nargs="*", choices=engines, default=engines)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
