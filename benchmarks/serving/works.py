"""What is asked: models that Tandem has trained, each with a question."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.client import Tandem
from models.frameworks.torch.exporting.graph import module
from models.weights import WeightsFile, read_weights


@dataclass(frozen=True)
class Work:
    """A model that has been trained, and a question to it."""

    name: str
    model: str
    file: WeightsFile
    value: Any
    item: Any
    """The question as Tandem takes it."""


def tiny(url: str, folder: Path) -> Work:
    x = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    spec = {"architecture": "mlp", "hidden": [64]}
    file = _trained(url, folder, "tiny", "tabular-classification", x, y, spec, epochs=3)
    row = x[0].tolist()
    return Work("tiny", "tiny", file, row, row)


def image(url: str, folder: Path) -> Work:
    """Pictures whose class is where they are bright."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 800)
    x = generator.integers(0, 120, (800, 32, 32, 3), dtype=np.uint8)
    for picture, place in zip(x, y, strict=True):
        row, column = divmod(int(place), 2)
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 100
    spec = {"architecture": "resnet18", "stem": "cifar"}
    file = _trained(url, folder, "image", "image-classification", x, y, spec, epochs=2)
    png = io.BytesIO()
    Image.fromarray(x[0]).save(png, "PNG")
    text = base64.b64encode(png.getvalue()).decode()
    return Work("image", "image", file, text, {"image": text})


def _trained(
    url: str,
    folder: Path,
    name: str,
    task: str,
    x: np.ndarray,
    y: np.ndarray,
    spec: Mapping[str, Any],
    epochs: int,
) -> WeightsFile:
    np.savez(folder / f"{name}.npz", x=x, y=y)
    with Tandem(url) as tandem:
        tandem.upload_dataset(folder / f"{name}.npz", name=name, task=task)
        job = tandem.create_job(
            {
                "framework": "torch",
                "dataset": name,
                "model": spec,
                "training": {"epochs": epochs},
                "name": name,
            }
        )
        assert tandem.wait(job.id).status == "succeeded"
        return read_weights(tandem.download_weights(name, 1, folder / f"{name}.safetensors"))


WORKS: Mapping[str, Callable[[str, Path], Work]] = {"tiny": tiny, "image": image}


def script_of(work: Work, folder: Path) -> Path:
    """The network as a TorchScript file: traced, BatchNorm folded, frozen."""
    x = torch.from_numpy(np.concatenate([work.file.card.preprocessing.batch([work.item])] * 2))
    frozen = torch.jit.freeze(torch.jit.trace(module(work.file).eval(), x))
    path = folder / f"{work.name}.pt"
    torch.jit.save(frozen, path)
    return path
