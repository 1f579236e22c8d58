"""StableHLO as `jax.export` writes it, for CPUs and GPUs: a zip of `module.bin` and `card.json`.

`jax.export.deserialize(zipfile.ZipFile(file).read("module.bin")).call(x)` runs it. Others find the StableHLO itself in
the deserialized module's `mlir_module_serialized`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import jax
import numpy as np
from jax.export import Exported, deserialize, export, symbolic_shape

from models.exports.card import ExportCard, target_of
from models.exports.formats import Run
from models.frameworks.jax.devices import resolve, scope
from models.frameworks.jax.images import normalised
from models.frameworks.jax.network import Network
from models.signature import TokenInput
from models.weights import WeightsFile

PLATFORMS = ("cpu", "cuda")


def write(model: WeightsFile, card: ExportCard, path: Path) -> None:
    """See `models.exports.formats.Writer`."""
    module = program(model, card).serialize()
    with ZipFile(path, "w") as archive:  # uncompressed: weights hardly shrink
        archive.writestr(ZipInfo("module.bin"), bytes(module))
        archive.writestr(ZipInfo("card.json"), card.model_dump_json())


def program(model: WeightsFile, card: ExportCard) -> Exported:
    """Raw input to logits (of a regression: to its value in the target's units), weights as constants."""
    about = model.card
    cpu = resolve("cpu")
    normalisation, target = about.preprocessing.normalisation, target_of(about)
    with scope(cpu, "float32"):
        network = Network(about.model, about.signature, "float32")
        tensors = network.to_device(model.weights, cpu)

        def output(x: jax.Array) -> jax.Array:
            if normalisation is not None:
                x = normalised(x, jax.numpy.asarray(normalisation.mean), normalisation.inverse_std)
            logits = network.apply(tensors, x, training=False)[0]
            return logits if target is None else logits * target.std + target.mean

        with _without_locations():
            return export(jax.jit(output), platforms=PLATFORMS)(_free(card))


def read(path: Path) -> Run:
    """See `models.exports.formats.Writer`."""
    with ZipFile(path) as archive:
        call = jax.jit(deserialize(bytearray(archive.read("module.bin"))).call)

    def run(x: np.ndarray) -> np.ndarray:
        with scope(resolve("cpu"), "float32"):
            return np.asarray(call(x))

    return run


@contextmanager
def _without_locations() -> Iterator[None]:
    """Otherwise every operation names the line it comes from, with this machine's folders."""
    config: Any = jax.config
    limit = config.jax_traceback_in_locations_limit
    config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        config.update("jax_traceback_in_locations_limit", limit)


def _free(card: ExportCard) -> Any:
    """The input's shape and dtype, with a symbol for every axis that has a name."""
    input = card.model.signature.input
    bounds = [f"tokens <= {input.length}"] if isinstance(input, TokenInput) else []
    shape = symbolic_shape(", ".join(map(str, card.input.shape)), constraints=bounds)
    shape_and_dtype: Any = jax.ShapeDtypeStruct
    return shape_and_dtype(shape, card.input.dtype)
