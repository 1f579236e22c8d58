"""The OpenVINO engine: graphs exported from torch and compiled for the CPU. It serves; it does not train.

Source: https://docs.openvino.ai
"""

import sys
from types import ModuleType
from typing import cast

# Imported, it reports its use to its makers, from a fork of a process that has threads; without this package, not.
sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))

from models.engine import Definition, Device  # noqa: E402
from models.frameworks.openvino.graphs import EXPORTER  # noqa: E402
from models.frameworks.openvino.serving import OpenVINOPredictor  # noqa: E402
from models.kept_files import KeptFiles  # noqa: E402
from models.serving import ServingPrecision  # noqa: E402
from models.weights import Weights  # noqa: E402


def predictor(
    definition: Definition,
    weights: Weights,
    *,
    device: Device = "cpu",
    precision: ServingPrecision = "float32",
    kept: KeptFiles | None = None,
    cores: int | None = None,
) -> OpenVINOPredictor:
    """See `models.engine.Server.predictor`; always on the CPU. Raises NotSupported for a network with an operation that
    OpenVINO does not have, and EngineUnavailable where its graph cannot be exported now."""
    return OpenVINOPredictor(definition, weights, precision, kept, cores)


def stop() -> None:
    """See `models.engine.stop_servers`."""
    EXPORTER.stop()
