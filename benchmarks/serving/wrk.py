"""wrk (https://github.com/wg/wrk) as the load generator: it takes a third of what Python takes of the cores."""

import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.load import Load

SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def wrk(url: str, body: bytes, *, connections: int, seconds: float) -> Load:
    """Post `body` to `url` for this long on one thread. Raises RuntimeError where an answer is not 2xx."""
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "post.lua"
        script.write_text(SCRIPT.format(body=body.decode()))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency"]
        done = subprocess.run([*command, "-s", script, url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert rate is not None, done.stdout
    return Load(float(rate[1]), _percentile(done.stdout, 50), _percentile(done.stdout, 99))


def _percentile(said: str, share: int) -> float:
    found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1]) * UNITS[found[2]]
