"""The benchmark of all architectures measures all of them, and the same networks on both sides."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.architectures import Measured, table
from benchmarks.bare.torch import network
from benchmarks.cases import CASES, Case
from models.catalog import architectures, parameter_count

ROOT = Path(__file__).parents[2]
NOT_MEASURED = {"linear"}  # the MLP without its hidden layer


def test_every_architecture_is_measured() -> None:
    assert {case.architecture for case in CASES.values()} == architectures().keys() - NOT_MEASURED


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_bare_loop_trains_a_network_of_the_same_size(case: Case) -> None:
    with torch.device("meta"):
        learned = sum(parameter.numel() for parameter in network(case).parameters())
    assert learned == parameter_count(case.spec, case.signature)


def test_the_benchmark_prints_a_line_and_a_table() -> None:
    options = ["--models", "mlp", "--frameworks", "torch", "--repeats", "1", "--steps", "40", "--markdown"]
    command = [sys.executable, "-m", "benchmarks.architectures", *options]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tandem, bare, ratio = map(
        float, re.search(r"^mlp +torch +(\S+) samples/s, bare +(\S+), ratio (\S+);", shown).group(1, 2, 3)
    )
    assert ratio == pytest.approx(tandem / bare, abs=0.01)
    assert "| mlp 28x28, 32 |" in shown


def test_a_row_has_both_frameworks_side_by_side() -> None:
    found = [Measured("cnn", "torch", 1626.4, 1657.0), Measured("cnn", "jax", 1604.0, 1352.2)]
    assert list(table(found))[2] == "| cnn 28x28, 32 | 1,626, 1,657, 0.98 | 1,604, 1,352, 1.19 |"
