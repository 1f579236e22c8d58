"""The formats. A new one is a module that is a `Writer`, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np

from models.architecture import Spec
from models.errors import InvalidInput, NotInstalled, suggest
from models.exports.card import ExportCard
from models.framework import Framework
from models.weights import WeightsFile

Run = Callable[[np.ndarray], np.ndarray]
"""From raw samples, as `models.engine.Predictor.logits` takes them, to the file's output, float32 [B, K]."""


@dataclass(frozen=True)
class Format:
    """How a model can leave.

    framework: the one that writes it; module: where in that framework's `exporting`. ids: the dtype of token ids in
    the file. packages: what must be installed besides what Tandem always needs; extra: the extra that brings them.
    library: whose networks it is for, None for all.
    """

    name: str
    framework: Framework
    module: str
    suffix: str
    media_type: str
    ids: Literal["int32", "int64"] = "int64"
    packages: tuple[str, ...] = ()
    extra: str | None = None
    library: Literal["huggingface"] | None = None

    def check_takes(self, spec: Spec) -> None:
        """Raises InvalidInput where the format is not for this network."""
        libraries = {published.library for published in type(spec)().published()}
        if self.library is not None and self.library not in libraries:
            others = ", ".join(format.name for format in FORMATS.values() if format.library is None)
            raise InvalidInput(
                f"{self.name!r} is for the networks that are published there, and {spec.name!r} is not. Use one of"
                f" {others}.",
                pointer="/format",
                code="format_mismatch",
            )

    def check_installed(self) -> None:
        """Raises NotInstalled."""
        if missing := [package for package in self.packages if find_spec(package) is None]:
            raise NotInstalled(
                f"To export {self.name!r} the server needs the package(s) {', '.join(missing)}; they come with"
                f" tandem[{self.extra}].",
                pointer="/format",
            )


class Writer(Protocol):
    """The module of a format."""

    def write(self, model: WeightsFile, card: ExportCard, path: Path) -> None:
        """Write the model with the card inside. The batch size is free, and so is the length of texts."""
        ...

    def read(self, path: Path) -> Run:
        """What is in the file and nothing else, ready to run on a CPU."""
        ...


FORMATS = {
    format.name: format
    for format in (
        Format(
            "onnx",
            "torch",
            "onnx",
            ".onnx",
            "application/octet-stream",
            packages=("onnx", "onnxscript", "onnxruntime"),
            extra="onnx",
        ),
        Format("torch-export", "torch", "torch_export", ".pt2", "application/zip"),
        Format("stablehlo", "jax", "stablehlo", ".stablehlo.zip", "application/zip", ids="int32"),
        Format(
            "transformers",
            "torch",
            "transformers",
            ".transformers.zip",
            "application/zip",
            library="huggingface",
        ),
    )
}


def find(name: str) -> Format:
    """The format of this name. Raises InvalidInput."""
    if name not in FORMATS:
        raise InvalidInput(
            f"There is no format {name[:80]!r}. {suggest(name, FORMATS)}",
            pointer="/format",
            code="unknown_value",
        )
    return FORMATS[name]


def writer(format: Format) -> Writer:
    """The format's module, imported on first use."""
    module = f"models.frameworks.{format.framework}.exporting.{format.module}"
    return cast(Writer, import_module(module))
