"""Graphs that were exported before: to export one, torch and its compiler are imported, which takes ten times as long
as to read it."""

import hashlib
import json
from importlib import import_module
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import openvino

from models.durable import sha256_of
from models.engine import Definition
from models.kept_files import SHA256, KeptFiles
from models.makers import makers
from models.weights import Weights

CORE = openvino.Core()
EXPORTER = "models.frameworks.openvino.exporting"
NETWORK, CONSTANTS = "graph.xml", "graph.bin"


def graph_of(definition: Definition, weights: Weights, kept: KeptFiles | None) -> openvino.Model:
    """The network from its normalised input on, with these weights: the one that was kept, or a new one.

    Raises NotSupported.
    """
    name = f"{digest(definition, weights)}.zip"
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


def digest(definition: Definition, weights: Weights) -> str:
    """Of all that a graph depends on."""
    about = [makers(), definition.spec.model_dump_json(), definition.signature.model_dump_json()]
    about += [json.dumps([name, array.dtype.str, array.shape]) for name, array in sorted(weights.items())]
    found = hashlib.sha256("\n".join(about).encode())
    for _, array in sorted(weights.items()):
        found.update(array.tobytes())
    return found.hexdigest()
