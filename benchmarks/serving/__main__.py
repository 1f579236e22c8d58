"""Tandem and other servers, one after the other, on the same weights.

    python -m benchmarks.serving                       all of it
    python -m benchmarks.serving --work image --peers bentoml --connections 64 --seconds 3

`tiny` is an MLP for rows of 32 numbers in JSON: what a server itself costs. `image` is ResNet-18 for 32x32 pictures,
each a PNG in base64. Tandem trains both first. Peers get the same network as a TorchScript file with BatchNorm folded,
two processes of one thread, and batches of up to 32 that wait for nothing where they can be told so.
Tandem serves from each of its engines, and from OpenVINO in bfloat16; and in two processes, `x2`. `parse-only` is a raw
ASGI server that parses the body and answers at once, in one process or in two;
`bare loop` is the folded network, or OpenVINO in either precision, without a server, in two threads.

Every server starts anew, the first answer is timed from there, and three seconds of load warm it up. Tandem starts
twice: the second time it finds what it has compiled or exported. The load comes from this machine, from wrk where it is
installed (Python else), and shares its cores. One answer of each server is checked before, with Python every one.
"""

import argparse
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from app.demo import server
from benchmarks.load import Load, load
from benchmarks.serving.bare import BATCH, bare_loops
from benchmarks.serving.memory import resident_mb
from benchmarks.serving.peers import LIMITS, PEERS
from benchmarks.serving.sides import Side, sides
from benchmarks.serving.works import WORKS, script_of
from benchmarks.serving.wrk import wrk

WARM_UP_S = 3.0


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found: dict[tuple[str, str, int], Load] = {}
        with server(folder / "data", Console(quiet=True)) as url:
            works = [WORKS[name](url, folder) for name in options.work]
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what the peers serve best
        for work in works:
            print(f"{work.name}:", flush=True)
            script = script_of(work, folder)
            if work.name == "image":
                for name, rate in bare_loops(script, work.file):
                    print(f"  {name}, batch {BATCH}, 2 threads: {rate:.0f} samples/s", flush=True)
            for side in sides(work, script, folder, options):
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in PEERS]
    engines = ["torch", "jax", "openvino", "openvino-bfloat16"]
    parser.add_argument("--work", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--peers", nargs="*", choices=names, default=names)
    parser.add_argument("--engines", nargs="*", choices=engines, default=engines)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
