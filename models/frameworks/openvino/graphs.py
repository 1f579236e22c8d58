"""Graphs that were exported before: to export one, torch and its compiler are imported, which takes ten times as long
as to read it."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import openvino

import models
from models.durable import sha256_of
from models.engine import Definition
from models.kept_files import SHA256, KeptFiles
from models.weights import Weights

CORE = openvino.Core()
EXPORTER = "models.frameworks.openvino.exporting"
MAKERS = ("openvino", "torch", "torchvision", "transformers")
"""Packages that say what a graph becomes."""
NETWORK, CONSTANTS = "graph.xml", "graph.bin"


def graph_of(definition: Definition, weights: Weights, kept: KeptFiles | None) -> openvino.Model:
    """The network from its normalised input on, with these weights: the one that was kept, or a new one.

    Raises NotSupported.
    """
    name = f"{_digest(definition, weights)}.zip"
    if (found := _found(kept, name)) is not None:
        return found
    graph: openvino.Model = import_module(EXPORTER).exported(definition, weights)
    if kept is not None:
        _keep(kept, name, graph)
    return graph


def _found(kept: KeptFiles | None, name: str) -> openvino.Model | None:
    file = kept.find(name) if kept is not None else None
    if file is None:
        return None
    try:
        with ZipFile(file.path) as parts:
            return CORE.read_model(parts.read(NETWORK), parts.read(CONSTANTS))
    except (OSError, BadZipFile, KeyError, RuntimeError):  # as if it had not been there
        return None


def _keep(kept: KeptFiles, name: str, graph: openvino.Model) -> None:
    """A disk that is full costs nothing but another export."""
    try:
        with kept.unfinished() as path:
            _write(graph, path)
            kept.keep(name, path, {SHA256: sha256_of(path)})
    except (OSError, RuntimeError):
        return


def _write(graph: openvino.Model, path: Path) -> None:
    parts = {NETWORK: path.with_suffix(".xml"), CONSTANTS: path.with_suffix(".bin")}
    try:
        openvino.serialize(graph, parts[NETWORK], parts[CONSTANTS])
        with ZipFile(path, "w") as file:
            for name, part in parts.items():
                file.write(part, name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _digest(definition: Definition, weights: Weights) -> str:
    """All that a graph depends on."""
    found = hashlib.sha256(_makers())
    about = [definition.spec.model_dump_json(), definition.signature.model_dump_json()]
    about += [json.dumps([name, array.dtype.str, array.shape]) for name, array in sorted(weights.items())]
    found.update("\n".join(about).encode())
    for _, array in sorted(weights.items()):
        found.update(array.tobytes())
    return found.hexdigest()


@cache
def _makers() -> bytes:
    """The packages, and this one's own code."""
    found = hashlib.sha256("\n".join(map(_version, MAKERS)).encode())
    for path in _sources():
        found.update(path.read_bytes())
    return found.digest()


def _sources() -> Iterable[Path]:
    return sorted(Path(str(models.__file__)).parent.rglob("*.py"))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
