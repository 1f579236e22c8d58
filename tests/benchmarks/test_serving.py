"""The comparison with other servers runs, and says how they stand to each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_servers_are_compared_on_the_same_weights() -> None:
    command = [
        sys.executable, "-m", "benchmarks.serving", "--work", "tiny", "--peers", "parse-only", "fastapi",
        "--engines", "torch", "--processes", "1", "2", "--connections", "2", "--seconds", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rates = re.findall(r"^  (\S.*?) +2 connections +(\d+) requests/s", done.stdout, re.MULTILINE)
    assert [name for name, _ in rates] == ["parse-only", "fastapi", "tandem torch", "tandem torch x2"]
    assert all(int(rate) > 10 for _, rate in rates)
    assert re.search(
        r"tandem torch +first answer after [\d.]+ s, of the next start after [\d.]+ s, \d+ MB", done.stdout
    )
    assert re.search(
        r"ratio: tandem torch +2 connections: [\d.]+ of fastapi, p50 [\d.]+ of fastapi's", done.stdout
    )
