"""A graph of OpenVINO's as one file, so that it is there whole or not at all."""

from pathlib import Path
from zipfile import ZipFile

import openvino

CORE = openvino.Core()
NETWORK, CONSTANTS = "graph.xml", "graph.bin"


def read(path: Path) -> openvino.Model:
    """Raises OSError, BadZipFile, KeyError, or RuntimeError where this is no such file."""
    with ZipFile(path) as parts:
        return CORE.read_model(parts.read(NETWORK), parts.read(CONSTANTS))


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
