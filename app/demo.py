"""The demo: the same network trained in PyTorch and in JAX through the REST API, each model served by both engines."""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from app.client import Tandem, TandemAPIError
from app.commands.connection import connect
from app.progress import watch
from app.replies import Job
from models.data.builtin import BUILTIN
from models.errors import Unavailable
from models.framework import FRAMEWORKS, Framework
from workers import processes

NAMES: Mapping[Framework, str] = {"torch": "PyTorch", "jax": "JAX"}
SPEC: Mapping[str, Any] = {
    "dataset": "digits",
    "model": {"architecture": "cnn"},
    "training": {"epochs": 10, "seed": 0},
    "name": "digits-cnn",
}
LEAST_ACCURACY = 0.97
LARGEST_DIFFERENCE = 1e-4
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 30.0


@dataclass(frozen=True)
class HeldOut:
    """The N images of the test split, which no job trained on: PNG files, and what they show."""

    images: tuple[bytes, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Served:
    """One model's answers for the held-out images from one engine. `logits` is float32 [N, K]."""

    accuracy: float
    logits: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """One trained model on every engine. `difference` is the largest between two engines' logits."""

    job: Job
    served: Mapping[Framework, Served]

    @property
    def difference(self) -> float:
        logits = [served.logits for served in self.served.values()]
        return float(max(np.abs(other - logits[0]).max() for other in logits))


def in_a_folder(data: Path | None, keep: bool, console: Console) -> list[str]:
    """Run the demo on a server of its own; returns in what it fell short of its promises.

    `data` is where the server keeps everything; None: a temporary folder, removed afterwards unless `keep`.
    """
    folder = data or Path(tempfile.mkdtemp(prefix="tandem-demo-"))
    try:
        with server(folder, console) as url:
            return against(
                url, console, again=f"{_tandem()} up --data {folder}" if data or keep else "make up"
            )
    finally:
        if data is None and not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def server(folder: Path, console: Console) -> Iterator[str]:
    """A Tandem server on a free port that keeps its data in `folder`; yields its URL and stops it at the end.

    Raises Unavailable, with the last lines it wrote, when it does not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "app", "up", "--port", str(port), "--data", str(folder)]
    began = time.monotonic()
    with (folder / "server.log").open("wb") as log:
        process = processes.spawn(command, stdout=log, stderr=log)
    try:
        _await_ready(url, process, folder / "server.log")
        console.print(f"Server ready on {url} after {time.monotonic() - began:.1f} s, data in {folder}")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        processes.await_end(process, STOPPED_WITHIN_S)


def against(url: str, console: Console, again: str | None = None) -> list[str]:
    """Run the demo against this server; returns in what it fell short of its promises."""
    with connect(url) as tandem:
        _await_answer(tandem)
        began = time.monotonic()
        jobs = {NAMES[name]: tandem.create_job({**SPEC, "framework": name}) for name in FRAMEWORKS}
        console.print(
            "Training the same network, from the same initial weights on the same batches, in both frameworks"
        )
        ended = watch(tandem, jobs, console)
        failed = [f"{label}: {_outcome(job)}" for label, job in ended.items() if job.status != "succeeded"]
        if failed:
            return failed
        held_out = held_out_digits()
        comparisons = {label: compare(tandem, job, held_out) for label, job in ended.items()}
    _report(comparisons, len(held_out.labels), time.monotonic() - began, console)
    console.print(_next(url, again), markup=False, soft_wrap=True)
    return shortfalls(comparisons)


def held_out_digits() -> HeldOut:
    """The test split of `digits`, split off the same way as the server does, as PNG files."""
    dataset = BUILTIN["digits"].load(Path(tempfile.gettempdir()))
    classes = dataset.description.classes
    assert classes is not None
    return HeldOut(
        images=tuple(_png(pixels) for pixels in dataset.test.array),
        labels=tuple(classes[index] for index in dataset.test.y),
    )


def compare(tandem: Tandem, job: Job, held_out: HeldOut) -> Comparison:
    """Predict the held-out images with this job's model on each engine."""
    assert job.result is not None
    model = f"{job.result.model}@{job.result.version}"
    return Comparison(job, {engine: _serve(tandem, model, engine, held_out) for engine in FRAMEWORKS})


def shortfalls(comparisons: Mapping[str, Comparison]) -> list[str]:
    """What the demo promised and did not see."""
    return [
        *(
            f"{label} trained, served by {NAMES[engine]}: accuracy {served.accuracy:.4f}, below {LEAST_ACCURACY}"
            for label, comparison in comparisons.items()
            for engine, served in comparison.served.items()
            if not served.accuracy >= LEAST_ACCURACY
        ),
        *(
            f"{label} trained: the engines' logits differ by {comparison.difference:.2e}, over {LARGEST_DIFFERENCE:g}"
            for label, comparison in comparisons.items()
            if not comparison.difference <= LARGEST_DIFFERENCE
        ),
    ]


def _serve(tandem: Tandem, model: str, engine: Framework, held_out: HeldOut) -> Served:
    began = time.monotonic()
    answer = tandem.predict(model, held_out.images, engine=engine, returns=["labels", "logits"])
    seconds = time.monotonic() - began
    right = [found.label == label for found, label in zip(answer.predictions, held_out.labels, strict=True)]
    logits = np.array([found.logits for found in answer.predictions], dtype=np.float32)
    return Served(float(np.mean(right)), logits, seconds)


def _report(comparisons: Mapping[str, Comparison], images: int, seconds: float, console: Console) -> None:
    table = Table(title=f"\n{images} held-out images, each predicted by both engines", title_justify="left")
    table.add_column("trained in")
    for engine in FRAMEWORKS:
        table.add_column(f"accuracy\nserved by {NAMES[engine]}", justify="right")
    for heading in ("largest logit\ndifference", "training", "samples/s"):
        table.add_column(heading, justify="right")
    for label, comparison in comparisons.items():
        timing = comparison.job.timing
        table.add_row(
            label,
            *(f"{comparison.served[engine].accuracy:.4f}" for engine in FRAMEWORKS),
            f"{comparison.difference:.1e}",
            f"{timing.get('train_s') or 0:.1f} s",
            f"{timing.get('samples_per_s') or 0:,.0f}",
        )
    console.print(table)
    console.print(
        "Both trained at the same time; `tandem compare` has one train after the other, and says who is faster."
    )
    console.print(f"From the first POST /jobs to the last prediction: {seconds:.1f} s")


def _next(url: str, again: str | None) -> str:
    where = "" if again else f" --url {url}"
    steps = {
        "keep a server, on http://127.0.0.1:8000": again,
        "see the jobs and models": f"{_tandem()} jobs list{where}",
        "train": f"{_tandem()} train examples/digits.json --follow{where}",
        "ask a model, on either engine": f"{_tandem()} predict digits-cnn examples/three.png --engine jax{where}",
        "read every request and answer": f"{'http://127.0.0.1:8000' if again else url}/docs",
    }
    lines = [f"  {purpose}:\n    {command}" for purpose, command in steps.items() if command]
    return "\n".join(["", "What to try next", *lines])


def _tandem() -> str:
    """How people who see this can call `tandem`."""
    if shutil.which("tandem"):
        return "tandem"
    program = Path(sys.executable).with_name("tandem")
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _outcome(job: Job) -> str:
    return f"job {job.id} {job.status}: {job.error.message if job.error else job.stop_reason}"


def _png(pixels: np.ndarray) -> bytes:
    """One grey image, uint8 [H, W, 1], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, format="PNG")
    return file.getvalue()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _await_answer(tandem: Tandem) -> None:
    """Give a server that has just been started the time it needs."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not tandem.ready():
        if time.monotonic() > deadline:
            raise Unavailable(f"no Tandem server was ready on {tandem.url} within {READY_WITHIN_S:g} s")
        time.sleep(0.2)


def _await_ready(url: str, process: processes.Process, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    with connect(url) as tandem, contextlib.suppress(TandemAPIError):
        while process.poll() is None and time.monotonic() < deadline:
            if tandem.ready():
                return
            time.sleep(0.05)
    last = " | ".join(log.read_text(errors="replace").splitlines()[-5:])
    raise Unavailable(f"the server did not get ready: {last or 'it wrote nothing'}")
