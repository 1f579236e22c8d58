"""torch's compiler takes longer to import than the rest of torch: predicting does without it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREDICTING = """
import sys
from models.engine import load_server
from tests.models.definitions import CASES, about, batch

for name in CASES.keys() - {"distilbert"}:  # transformers asks for it
    definition, weights = about(name)
    load_server("torch").predictor(definition, weights, device="cpu").logits(batch(definition.signature.input, 2))
    assert "torch._dynamo" not in sys.modules, name
"""
COMPILING = """
import torch
from models.frameworks.torch.vision import torchvision

import torch._dynamo.utils

assert torch._dynamo.__file__
boxes = [torch.tensor([[0.0, 0.0, 3.0, 3.0]])]
assert torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 2).mean() == 1
exported = torch.export.export(torchvision.models.resnet18().eval(), (torch.zeros(2, 3, 32, 32),))
assert exported.module()(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
"""


def run(source: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_network_needs_it_to_predict() -> None:
    run(PREDICTING)


def test_it_is_there_for_those_who_compile() -> None:
    run(COMPILING)
