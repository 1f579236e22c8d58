"""A small network of each kind, with weights that tell samples apart, and batches of what it takes."""

import numpy as np

from models.catalog import architectures
from models.engine import Definition
from models.exports.checking import texts
from models.initial import initial_weights
from models.preprocessing import Normalisation
from models.signature import ImageInput, Signature, TableInput, TokenInput

SPECS = architectures()
TOKENS = TokenInput(vocabulary=50, length=24, padding=0)
CASES = {
    "linear": (SPECS["linear"](), ImageInput(height=6, width=9, channels=3)),
    "mlp": (SPECS["mlp"](hidden=(8,)), TableInput(features=3, columns=("a", "b", "c"))),
    "cnn": (SPECS["cnn"](width=4, stages=2), ImageInput(height=12, width=9, channels=1)),
    "resnet18": (SPECS["resnet18"](stem="cifar"), ImageInput(height=8, width=8, channels=3)),
    "resnet50": (SPECS["resnet50"](), ImageInput(height=32, width=32, channels=3)),
    "vgg11": (SPECS["vgg11"](width=4, hidden=16), ImageInput(height=32, width=32, channels=3)),
    "convnext_tiny": (
        SPECS["convnext_tiny"](depths=(1, 1, 1, 1), widths=(4, 6, 8, 10)),
        ImageInput(height=32, width=35, channels=3),
    ),
    "vit": (
        SPECS["vit"](patch_size=4, layers=2, heads=2, hidden=16, mlp=24),
        ImageInput(height=16, width=16, channels=1),
    ),
    "bilstm": (SPECS["bilstm"](embedding=6, hidden=5, length=24), TOKENS),
    "transformer": (SPECS["transformer"](layers=1, heads=2, hidden=8, mlp=12, length=24), TOKENS),
    "distilbert": (
        SPECS["distilbert"](layers=1, heads=2, hidden=8, mlp=12, positions=30, length=24), TOKENS,
    ),
}  # fmt: skip

LARGER = {f"classifier.{layer}.weight" for layer in (0, 3, 6)}
"""Weights of vgg that start so small that all samples look alike."""


def about(name):
    spec, input = CASES[name]
    task = {"table": "tabular-classification", "tokens": "text-classification"}.get(
        input.kind, "image-classification"
    )
    signature = Signature(task=task, input=input, outputs=5)
    normalisation = None
    if input.kind != "tokens":
        size = input.shape[-1]
        normalisation = Normalisation(np.full(size, 90, np.float32), np.full(size, 0.02, np.float32))
    generator = np.random.default_rng(1)
    weights = {
        name: generator.normal(0, 0.3, array.shape).astype(np.float32)
        if array.ndim == 2 and not array.any()
        else array * (3 if array.ndim > 1 and name in LARGER else 1)
        for name, array in initial_weights(spec, signature, 0).items()
    }
    return Definition(spec, signature, normalisation), weights


def batch(input, rows, seed=0):
    generator = np.random.default_rng(seed)
    match input:
        case TokenInput():
            return texts(generator, input, rows, 1 + rows % input.length)
        case ImageInput():
            return generator.integers(0, 256, (rows, *input.shape), dtype=np.uint8)
    return generator.normal(90, 40, (rows, *input.shape)).astype(np.float32)
