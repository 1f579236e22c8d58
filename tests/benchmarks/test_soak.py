"""Under mixed load no answer is wrong and nothing grows; under too much of it the rest is shed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(280)
def test_mixed_load_leaves_no_wrong_answer_and_no_growth() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--seconds", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=260, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    statuses = re.search(r"(\d+) answers \((.*?)\), (\d+) hung up", done.stdout)
    assert statuses is not None, done.stdout
    assert int(statuses[1]) > 200
    assert set(re.findall(r"(\d+): \d+", statuses[2])) == {"200", "404", "422"}
    assert "wrong answers: 0" in done.stdout, done.stdout
    growth = re.search(r"([+-][\d.]+) MB in the second half", done.stdout)
    assert growth is not None
    assert float(growth[1]) < 200  # engines are loaded and dropped all the time; one takes up to 100 MB
    turnover = re.search(r"loaded (\d+) times, (\d+) made room", done.stdout)
    assert turnover is not None
    assert min(map(int, turnover.groups())) > 5
    held = re.search(r"file descriptors: (\d+) to (\d+)", done.stdout)
    assert held is not None
    assert int(held[2]) - int(held[1]) < 30  # connections come and go
    overload = re.search(r"overload: (\d+) answered, (\d+) shed, others (\d+)", done.stdout)
    assert overload is not None, done.stdout
    answered, shed, others = map(int, overload.groups())
    assert answered > 20
    assert shed > answered
    assert others == 0
    ratio = re.search(r"ratio: p99 in the server ([\d.]+) of that", done.stdout)
    assert ratio is not None
    assert float(ratio[1]) < 3
