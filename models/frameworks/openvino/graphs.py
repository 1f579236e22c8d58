"""Graphs of networks: those that were exported before, and new ones, which a process of its own exports.

torch traces by replacing what all its modules do when they are called; in this process a prediction of another thread
would end in the trace. And its compiler takes ten times as long to import as a graph to read.
"""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory, TemporaryFile
from zipfile import BadZipFile, ZipFile

import openvino

from models.durable import sha256_of
from models.engine import Definition
from models.errors import NotSupported, Unavailable
from models.kept_files import SHA256, KeptFiles
from models.makers import makers
from models.weights import Weights

CORE = openvino.Core()
EXPORTER = "models.frameworks.openvino.exporting"
LACKING = 3
"""The exporter's exit status where OpenVINO lacks one of the network's operations."""
NETWORK, CONSTANTS = "graph.xml", "graph.bin"


def graph_of(definition: Definition, weights: Weights, kept: KeptFiles | None) -> openvino.Model:
    """The network from its normalised input on, with these weights: the one that was kept, or a new one.

    Raises NotSupported, or Unavailable where the process that exports fails.
    """
    name = f"{digest(definition, weights)}.zip"
    if (found := _found(kept, name)) is not None:
        return found
    with TemporaryDirectory(prefix="tandem-graph-") as folder:
        path = Path(folder, "graph.zip")
        _export(definition, weights, path)
        if kept is not None:
            _keep(kept, name, path)
        return _read(path)


def _found(kept: KeptFiles | None, name: str) -> openvino.Model | None:
    file = kept.find(name) if kept is not None else None
    if file is None:
        return None
    try:
        return _read(file.path)
    except (OSError, BadZipFile, KeyError, RuntimeError):  # as if it had not been there
        return None


def _read(path: Path) -> openvino.Model:
    with ZipFile(path) as parts:
        return CORE.read_model(parts.read(NETWORK), parts.read(CONSTANTS))


def _export(definition: Definition, weights: Weights, path: Path) -> None:
    """Have it written to this path, by the main function of `EXPORTER`."""
    command = [sys.executable, "-m", EXPORTER, str(path)]
    with TemporaryFile() as words:
        try:
            # Its input stays open until it has ended: it ends when that is closed, so it never outlives this process.
            with subprocess.Popen(command, stdin=PIPE, stdout=words, stderr=words) as process:
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # its status tells
                    pickle.dump((definition, dict(weights)), process.stdin, protocol=5)
                    process.stdin.flush()
                status = process.wait()
                with suppress(BrokenPipeError):
                    process.stdin.close()
        except OSError as error:
            raise Unavailable(
                f"The graph of {definition.spec.name!r} could not be exported: {error}"
            ) from error
        words.seek(0)
        said = words.read().decode(errors="replace").strip().splitlines()
    if status == LACKING:
        raise NotSupported(
            f"The engine 'openvino' cannot run {definition.spec.name!r}: it lacks one of its operations. Use another.",
            pointer="/engine",
        )
    if status:
        raise Unavailable(
            f"The process that exports the graph of {definition.spec.name!r} failed:"
            f" {said[-1] if said else f'status {status}'}"
        )


def _keep(kept: KeptFiles, name: str, path: Path) -> None:
    """A disk that is full costs nothing but another export."""
    try:
        with kept.unfinished() as copy:
            shutil.copyfile(path, copy)
            kept.keep(name, copy, {SHA256: sha256_of(copy)})
    except OSError:
        return


def write(graph: openvino.Model, path: Path) -> None:
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
