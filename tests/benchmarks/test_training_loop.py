import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.framework import FRAMEWORKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_both_loops_run_and_are_compared(framework):
    options = ["--framework", framework, "--model", "mlp", "--steps", "40", "--repeats", "1"]
    command = [sys.executable, "-m", "benchmarks.training_loop", *options]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rates = dict(re.findall(r"(bare|tandem): +(\d+) samples/s", shown))
    assert rates.keys() == {"bare", "tandem"}
    ratio = float(re.search(r"ratio of the best: ([\d.]+)", shown)[1])
    assert ratio == pytest.approx(int(rates["tandem"]) / int(rates["bare"]), abs=0.01)
