"""Mixed load on one server for a long time: is an answer ever wrong, does memory grow, is overload shed?

    python -m benchmarks.soak                     an hour
    python -m benchmarks.soak --seconds 60        a minute; the tests run some seconds

Rows, pictures and texts on every engine, in both protocols, some of them wrong, some clients hanging up; an alias that
moves between two versions; models that do not all fit into the memory that is for them, so that they are loaded over
and over. Every answer is compared with what the same input gave before the load, on the version that answers. Memory,
file descriptors and threads are read every second. Memory is told by tenths of the time in its two parts, see
`benchmarks.serving.memory.Resident`; the growth of the server's own is a straight line through the second half. Then a
model that takes a while gets far more requests than it can answer: what is accepted may wait no longer than the queue
in front of it takes, the rest is 503 at once.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import httpx
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from app.client import Tandem
from app.demo import server
from benchmarks.serving.memory import Resident, resident
from benchmarks.soak.traffic import Asked, Seen, inferred, predicted, refused, traffic
from models.engine import is_installed
from models.framework import ENGINES, EngineName
from workers import processes

PORT = 8791
ROOM = 0.8
"""Memory for models, as a share of what they take on all engines."""
SELDOM = 7
"""One text in so many goes to any engine: what is seldom asked for has just made room for something else."""
TEXTS = {"architecture": "transformer", "layers": 1, "heads": 2, "hidden": 32, "mlp": 64, "length": 32}
SLOW = "slow"
"""The model for overload: it takes too long to be computed on the event loop."""
MODELS: Sequence[tuple[str, str, dict[str, Any], int]] = (
    ("rows", "digits", {"architecture": "linear"}, 0),
    ("rows", "digits", {"architecture": "linear"}, 1),
    ("pictures", "digits", {"architecture": "cnn", "width": 8}, 0),
    ("texts", "texts", TEXTS, 0),
    (SLOW, "digits", {"architecture": "cnn", "width": 16}, 0),
)
"""Name, dataset, network and seed."""
WAITING = 32
OVERLOAD_CONNECTIONS = 128
OVERLOAD_S = 5.0
TURNOVER = ("tandem_model_cache_loads", "tandem_model_cache_evictions")


@dataclass(frozen=True)
class Reading:
    at_s: float
    memory: Resident
    descriptors: int
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--connections", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with server(folder / "data", Console(quiet=True)) as url:
            room = round(ROOM * _train(url, folder))
        with _api(folder, TANDEM_MODEL_CACHE_BYTES=str(room)) as (url, pid):
            asked = _requests(url)
            seen, readings = asyncio.run(_soak(url, pid, asked, options.connections, options.seconds))
            turnover = _turnover(url)
        _report(seen, readings, turnover, options.seconds)
        with _api(folder, TANDEM_MAX_WAITING_PREDICTIONS=str(WAITING), TANDEM_SERVING_THREADS="1") as (
            url,
            _,
        ):
            _overload(url)


def _train(url: str, folder: Path) -> int:
    """Two versions for the rows, one model of each other kind; what they have learned does not matter. The bytes that
    they take on all engines, without `SLOW`."""
    texts = folder / "texts.jsonl"
    lines = ({"text": f"{'good' if n % 2 else 'bad'} number {n}", "label": n % 2} for n in range(200))
    texts.write_text("\n".join(map(json.dumps, lines)))
    with Tandem(url) as tandem:
        tandem.upload_dataset(texts, name="texts", task="text-classification")
        for name, dataset, model, seed in MODELS:
            training = {"max_steps": 20, "seed": seed}
            job = tandem.create_job(
                {"name": name, "dataset": dataset, "model": model, "framework": "torch", "training": training}
            )
            if tandem.wait(job.id).status != "succeeded":
                raise SystemExit(f"{name} was not trained: {tandem.job(job.id).error}")
    sizes = [
        version["size_bytes"]
        for model in httpx.get(f"{url}/models").raise_for_status().json()["data"]
        if model["name"] != SLOW
        for version in model["versions"]
    ]
    return sum(sizes) * len(_engines())


def _engines() -> list[EngineName]:
    return [one for one in ENGINES if is_installed(one)]


@contextmanager
def _api(folder: Path, **environment: str) -> Iterator[tuple[str, int]]:
    """A server on what was trained; its URL and process."""
    command = [sys.executable, "-m", "app", "api", "--port", str(PORT)]
    given = {
        **os.environ,
        "TANDEM_DATA_DIR": str(folder / "data"),
        "TANDEM_LOG_LEVEL": "error",
        **environment,
    }
    process = processes.spawn(command, environment=given)
    url = f"http://127.0.0.1:{PORT}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            client.get(f"{url}/healthz", timeout=60).raise_for_status()
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        processes.await_end(process, 20)


def _requests(url: str) -> list[Asked]:
    """Of all kinds, about as often as they come; what they must give is what they give now."""
    generator = np.random.default_rng(0)
    pixels = [one.tolist() for one in generator.integers(0, 17, (40, 8, 8))]
    engines = ["auto", *_engines()]
    with httpx.Client(base_url=url, timeout=120) as client:
        client.put("/models/rows/aliases/live", json={"version": 1}).raise_for_status()

        def logits(model: str, item: Any) -> list[float]:
            body = {"model": model, "inputs": [item], "engine": "torch", "return": ["logits"]}
            answer = client.post("/predict", json=body).raise_for_status().json()
            found: list[float] = answer["predictions"][0]["logits"]
            return found

        asked: list[Asked] = []
        for number, item in enumerate(pixels):
            engine = engines[number % len(engines)]
            of_rows = {version: logits(f"rows@{version}", item) for version in (1, 2)}
            asked += [predicted({"model": "rows@live", "inputs": [item], "engine": engine}, of_rows)] * 6
            tensor = {
                "name": "image",
                "shape": [1, 8, 8, 1],
                "datatype": "UINT8",
                "data": np.ravel(item).tolist(),
            }
            asked.append(inferred("rows@live", tensor, of_rows))
            picture = _png(item)
            of_picture = {1: logits("pictures", picture)}
            asked += [predicted({"model": "pictures", "inputs": [picture], "engine": engine}, of_picture)] * 2
            text = f"good number {number}"
            of_text = {1: logits("texts", text)}
            of_texts = engine if number % SELDOM == 0 else "torch"
            asked.append(predicted({"model": "texts", "inputs": [text], "engine": of_texts}, of_text))
            asked.append(
                refused("/predict", {"model": "rows@live", "inputs": [[*item[:-1], item[-1][:-1]]]}, 422)
            )
            asked.append(refused("/predict", {"model": f"nobody-{number}", "inputs": [item]}, 404))
    return asked


def _png(pixels: Sequence[Sequence[int]]) -> Mapping[str, str]:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8) * 15).save(file, "PNG")
    return {"image": base64.b64encode(file.getvalue()).decode()}


async def _soak(
    url: str, pid: int, asked: Sequence[Asked], connections: int, seconds: float
) -> tuple[Seen, list[Reading]]:
    readings: list[Reading] = []
    async with asyncio.TaskGroup() as group:
        load = group.create_task(traffic(url, asked, connections, seconds))
        beside = [group.create_task(_move(url)), group.create_task(_read(pid, readings))]
        seen = await load
        for one in beside:
            one.cancel()
    return seen, readings


async def _move(url: str) -> None:
    """The alias, back and forth."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while True:
            for version in (2, 1):
                await asyncio.sleep(0.5)
                (await client.put("/models/rows/aliases/live", json={"version": version})).raise_for_status()


async def _read(pid: int, readings: list[Reading]) -> None:
    began = perf_counter()
    process = Path(f"/proc/{pid}")
    while True:
        descriptors, threads = (len([*(process / name).iterdir()]) for name in ("fd", "task"))
        readings.append(Reading(perf_counter() - began, resident(pid), descriptors, threads))
        await asyncio.sleep(1)


def _turnover(url: str) -> tuple[int, int]:
    """How often models were loaded, and made room for others."""
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").raise_for_status().text)
        for sample in family.samples
        if sample.name in TURNOVER
    }
    loads, evictions = (int(found[name]) for name in TURNOVER)
    return loads, evictions


def _report(seen: Seen, readings: Sequence[Reading], turnover: tuple[int, int], seconds: float) -> None:
    loads, evictions = turnover
    late = [one for one in readings if one.at_s > seconds / 2]
    at_s = [one.at_s for one in late]
    slope = float(np.polyfit(at_s, [one.memory.own_mb for one in late], 1)[0])
    percentiles = quantiles(seen.seconds, n=100)
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items()))
    print(
        f"mixed load for {seconds:g} s: {sum(seen.statuses.values())} answers ({statuses}), {seen.hung_up} hung up"
    )
    print(f"  p50 {percentiles[49] * 1000:.1f} ms, p99 {percentiles[98] * 1000:.1f} ms")
    print(f"  wrong answers: {len(seen.wrong)}")
    for problem in seen.wrong[:5]:
        print(f"    {problem}")
    tenths = [some for some in np.array_split([one.memory for one in readings], 10) if len(some)]
    for name, part in zip(
        Resident._fields, np.array([np.median(some, axis=0) for some in tenths]).T, strict=True
    ):
        print(f"  memory, {name} by tenths of the time:", *(f"{size:.0f}" for size in part))
    print(
        f"  growth of own_mb: {slope * (at_s[-1] - at_s[0]):+.1f} MB in the second half,"
        f" {slope * 3600:+.1f} MB/h"
    )
    print(f"  models: loaded {loads} times, {evictions} made room for others")
    print(
        f"  file descriptors: {late[0].descriptors} to {late[-1].descriptors},"
        f" threads: {late[0].threads} to {late[-1].threads}",
        flush=True,
    )


def _overload(url: str) -> None:
    """Far more requests than can be answered, to a batch of eight at a time."""
    item = np.zeros((8, 8), int).tolist()
    body = {"model": SLOW, "inputs": [item] * 8, "engine": "torch"}
    with httpx.Client(base_url=url, timeout=60) as client:
        client.post("/predict", json=body).raise_for_status()
    waits: list[float] = []
    asked = Asked("/predict", json.dumps(body).encode(), partial(_shed, waits))
    alone = asyncio.run(traffic(url, [asked], 2, OVERLOAD_S / 2))
    waits.clear()
    seen = asyncio.run(traffic(url, [asked], OVERLOAD_CONNECTIONS, OVERLOAD_S))
    answered, shed = seen.statuses[200], seen.statuses[503]
    p99_s, seen_p99_s = quantiles(waits, n=100)[98], quantiles(seen.seconds, n=100)[98]
    # A batch is at most what fits into the queue: one is being computed, one waits, and this one is computed then.
    bound_s = 3 * WAITING / 8 / (answered / OVERLOAD_S)
    print(f"overload: {answered} answered, {shed} shed, others {len(seen.wrong)}")
    print(
        f"  p99 {p99_s * 1000:.0f} ms in the server, {seen_p99_s * 1000:.0f} ms with the way to it and back;"
        f" a full queue and two batches take {bound_s * 1000:.0f} ms"
    )
    print(f"  ratio: p99 in the server {p99_s / bound_s:.2f} of that")
    few = alone.statuses[200] / (OVERLOAD_S / 2)
    print(f"  with two clients {few:.0f}/s, p99 {quantiles(alone.seconds, n=100)[98] * 1000:.0f} ms")
    print(f"  ratio: {answered / OVERLOAD_S / few:.2f} of what two clients get is answered", flush=True)


def _shed(waits: list[float], status: int, answer: bytes) -> str | None:
    """Notes the seconds in the queue and in the batch."""
    if status == 200:
        timing = json.loads(answer)["timing"]
        waits.append((timing["queue_ms"] + timing["compute_ms"]) / 1000)
        return None
    return None if status == 503 and b"too_many_predictions" in answer else f"{status}"


if __name__ == "__main__":
    main()
