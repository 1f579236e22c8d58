"""`POST /predict` against a server written by hand with FastAPI and torch, on the same weights.

    python -m benchmarks.predict --connections 1 16 64 --seconds 5

Trains a small MLP on the rows of an uploaded table (32 numbers each), serves it from Tandem on each engine and from
`benchmarks/bare/predict_server.py`, in turn on one machine, and sends one row a request. Every answer is checked.
The load generator shares the cores with the servers.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from app.client import Tandem
from app.demo import server
from benchmarks.load import Load, load
from models.framework import FRAMEWORKS
from workers import processes

FEATURES = 32
BARE_PORT = 8765


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "data", Console(quiet=True)) as url:
        row, label, weights = train(url, Path(folder))
        with bare_server(weights) as bare_url:
            for connections in options.connections:
                hand = load(
                    f"{bare_url}/predict",
                    json.dumps({"inputs": [row]}).encode(),
                    lambda answer: json.loads(answer)["labels"] == [label],
                    connections=connections,
                    seconds=options.seconds,
                )
                print(f"{connections:>3} connections, by hand         {hand}")
                for engine in FRAMEWORKS:
                    found = predict(url, row, label, engine, connections, options.seconds)
                    print(
                        f"{connections:>3} connections, Tandem on {engine:<5}  {found},"
                        f" ratio {found.rate / hand.rate:.2f}"
                    )


def train(url: str, folder: Path) -> tuple[list[float], str, Path]:
    """A row, the label that the trained model gives it, and the model's file."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2000, FEATURES)).astype(np.float32)
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] + x[:, 1] > 0).astype(np.int64))
    with Tandem(url) as tandem:
        tandem.upload_dataset(folder / "table.npz", name="table", task="tabular-classification")
        job = tandem.create_job(
            {
                "framework": "torch",
                "dataset": "table",
                "model": {"architecture": "mlp", "hidden": [64]},
                "training": {"epochs": 3},
                "name": "tiny",
            }
        )
        assert tandem.wait(job.id).status == "succeeded"
        row = x[0].tolist()
        label = tandem.predict("tiny", [row]).predictions[0].label
        assert label is not None
        return row, label, tandem.download_weights("tiny", 1, folder / "tiny.safetensors")


def predict(url: str, row: list[float], label: str, engine: str, connections: int, seconds: float) -> Load:
    body = json.dumps({"model": "tiny", "inputs": [row], "engine": engine}).encode()
    httpx.post(f"{url}/predict", content=body, timeout=60).raise_for_status()  # loads the model
    return load(
        f"{url}/predict",
        body,
        lambda answer: json.loads(answer)["predictions"][0]["label"] == label,
        connections=connections,
        seconds=seconds,
    )


@contextmanager
def bare_server(weights: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare.predict_server:app"]
    process = processes.spawn(
        [*command, "--port", str(BARE_PORT), "--log-level", "warning"],
        environment={**os.environ, "BARE_MODEL": str(weights)},
    )
    url = f"http://127.0.0.1:{BARE_PORT}"
    try:
        _await(f"{url}/openapi.json")
        yield url
    finally:
        processes.kill(process)


def _await(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    main()
