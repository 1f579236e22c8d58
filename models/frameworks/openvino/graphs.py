"""Graphs of networks: those that were exported before, and new ones."""

import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import openvino

from models.durable import sha256_of
from models.engine import Definition
from models.errors import EngineUnavailable
from models.frameworks.openvino.exporter import Exporter
from models.frameworks.openvino.graph_files import read
from models.kept_files import SHA256, KeptFiles
from models.makers import makers
from models.weights import Weights

EXPORTER = Exporter()


def graph_of(definition: Definition, weights: Weights, kept: KeptFiles | None) -> openvino.Model:
    """The network from its normalised input on, with these weights: the one that was kept, or a new one.

    Raises NotSupported, or EngineUnavailable where it cannot be exported.
    """
    name = f"{digest(definition, weights)}.zip"
    if (found := _found(kept, name)) is not None:
        return found
    try:
        with TemporaryDirectory(prefix="tandem-graph-") as folder:
            path = Path(folder, "graph.zip")
            EXPORTER.export(definition, weights, path)
            graph = read(path)
            if kept is not None:
                _keep(kept, name, path)
            return graph
    except (OSError, BadZipFile, KeyError, RuntimeError) as error:
        raise EngineUnavailable(
            f"The graph of {definition.spec.name!r} could not be exported: {error}"
        ) from error


def _found(kept: KeptFiles | None, name: str) -> openvino.Model | None:
    file = kept.find(name) if kept is not None else None
    if file is None:
        return None
    try:
        return read(file.path)
    except (OSError, BadZipFile, KeyError, RuntimeError):  # as if it had not been there
        return None


def _keep(kept: KeptFiles, name: str, path: Path) -> None:
    """A disk that is full costs nothing but another export."""
    try:
        with kept.unfinished() as copy:
            shutil.copyfile(path, copy)
            kept.keep(name, copy, {SHA256: sha256_of(copy)})
    except OSError:
        return


def digest(definition: Definition, weights: Weights) -> str:
    """Of all that a graph depends on."""
    about = [makers(), definition.spec.model_dump_json(), definition.signature.model_dump_json()]
    about += [json.dumps([name, array.dtype.str, array.shape]) for name, array in sorted(weights.items())]
    found = hashlib.sha256("\n".join(about).encode())
    for _, array in sorted(weights.items()):
        found.update(array.tobytes())
    return found.hexdigest()
