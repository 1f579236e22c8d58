"""Time from `POST /jobs` to the first optimizer step, with a warm spare trainer and without one.

    python -m benchmarks.job_start --repeats 5

Starts a server of its own for each side, runs one job for each framework that fills JAX's compilation cache,
and then times jobs one after another: from just before the request is sent until the event that reports the
first step arrives. Between jobs it waits until the next spare has had time to get ready. Prints medians in
seconds and how many times faster the warm spare starts. Targets: under 1 s for torch, under 3 s for jax.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console

from app.client import Tandem
from app.demo import server
from models.framework import FRAMEWORKS, Framework

SPEC = {
    "dataset": "digits",
    "model": {"architecture": "cnn"},
    "training": {"epochs": 1},
    "name": "job-start",
}
TARGETS_S: dict[Framework, float] = {"torch": 1.0, "jax": 3.0}
SPARE_READY_S = 10.0
"""Importing a framework takes 2 to 5 s on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    found = {warm: measure(warm, repeats) for warm in (True, False)}
    for framework in FRAMEWORKS:
        warm, cold = (median(found[side][framework]) for side in (True, False))
        fastest = min(found[True][framework])
        print(
            f"{framework:<6} warm spare {warm:.2f} s (best {fastest:.2f}), without {cold:.2f} s,"
            f" ratio {cold / warm:.1f}; target under {TARGETS_S[framework]:.0f} s:"
            f" {'met' if warm < TARGETS_S[framework] else 'missed'}"
        )


def measure(warm: bool, repeats: int) -> dict[Framework, list[float]]:
    """Seconds to the first step of every timed job."""
    os.environ["TANDEM_WARM_SPARE"] = str(warm).lower()
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), Console(quiet=True)) as url,
        Tandem(url) as tandem,
    ):
        return {framework: _starts(tandem, framework, warm, repeats) for framework in FRAMEWORKS}


def _starts(tandem: Tandem, framework: Framework, warm: bool, repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats + 1):
        time.sleep(SPARE_READY_S if warm else 0.5)
        seconds.append(_first_step_s(tandem, framework))
    return seconds[1:]


def _first_step_s(tandem: Tandem, framework: Framework) -> float:
    began = time.perf_counter()
    job = tandem.create_job({**SPEC, "framework": framework})
    for event in tandem.follow(job.id):
        if event.type == "progress" and event.data["step"] > 0:
            seconds = time.perf_counter() - began
            break
        if event.type == "done":
            raise SystemExit(f"job {job.id} ended before its first step: {tandem.job(job.id)}")
    tandem.wait(job.id)
    return seconds


if __name__ == "__main__":
    main()
