"""Between torch's `state_dict` and Flax: the only place that knows both layouts.

Each layer type has one entry: which of its attributes is which canonical tensor, and how it is laid out. Only what is
a `TorchParam` needs none.

Shape suffixes: O outputs, I inputs, H height, W width, C channels.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from models.frameworks.jax.convolutions import Convolution, DepthwiseConvolution, PatchConvolution
from models.frameworks.jax.layers import BatchNorm, FlattenLinear, TorchParam
from models.frameworks.jax.pooling import PooledLinear
from models.winograd import transformed

Convert = Callable[[Any, np.ndarray], np.ndarray]
"""From a layer and one of its tensors to the same tensor in the other layout."""
Path = tuple[Any, ...]
"""Attribute names and list positions from the network to a tensor."""


@dataclass(frozen=True)
class Layout:
    """A canonical tensor of a layer: its name, and both ways between torch's layout and Flax's."""

    name: str
    to_flax: Convert
    to_torch: Convert


@dataclass(frozen=True)
class Place:
    """Where a canonical tensor lives in a Flax network."""

    path: Path
    layer: Any
    layout: Layout

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        return self.layout.to_flax(self.layer, array)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        return self.layout.to_torch(self.layer, array)


def places(network: nnx.Module) -> dict[str, Place]:
    """Every canonical tensor of the network by its `state_dict` name."""
    return {name: place for path, layer in nnx.iter_modules(network) for name, place in _places(path, layer)}


def _places(path: Path, layer: Any) -> Iterator[tuple[str, Place]]:
    for attribute, layout in _layouts(layer):
        if getattr(layer, attribute) is not None:
            name = ".".join(map(str, (*path, layout.name)))
            yield name, Place((*path, attribute), layer, layout)


def _layouts(layer: Any) -> Iterator[tuple[str, Layout]]:
    yield from LAYOUTS.get(type(layer), {}).items()
    for attribute, value in vars(layer).items():
        if isinstance(value, TorchParam):
            yield attribute, Layout(attribute, _same, _same)


def _same(layer: Any, array: np.ndarray) -> np.ndarray:
    return array


def _transposed(layer: Any, array: np.ndarray) -> np.ndarray:
    return array.T


def _oihw_to_hwio(layer: Any, array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0)


def _hwio_to_oihw(layer: Any, array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1)


def _to_kernel(layer: Convolution, array: np.ndarray) -> np.ndarray:
    kernel_HWIO = _oihw_to_hwio(layer, array)
    return kernel_HWIO if layer.tile is None else transformed(kernel_HWIO, layer.tile)


def _o_chw_to_hwc_o(layer: FlattenLinear, array: np.ndarray) -> np.ndarray:
    *sizes, channels = layer.sample
    outputs = array.shape[0]
    return np.moveaxis(array.reshape(outputs, channels, *sizes), (1, 0), (-2, -1)).reshape(-1, outputs)


def _hwc_o_to_o_chw(layer: FlattenLinear, array: np.ndarray) -> np.ndarray:
    outputs = array.shape[1]
    return np.moveaxis(array.reshape(*layer.sample, outputs), (-2, -1), (1, 0)).reshape(outputs, -1)


FLATTENED = {
    "kernel": Layout("weight", _o_chw_to_hwc_o, _hwc_o_to_o_chw),
    "bias": Layout("bias", _same, _same),
}
CONVOLUTION = {
    "kernel": Layout("weight", _oihw_to_hwio, _hwio_to_oihw),
    "bias": Layout("bias", _same, _same),
}
LAYOUTS: Mapping[type, Mapping[str, Layout]] = {
    nnx.Linear: {
        "kernel": Layout("weight", _transposed, _transposed),
        "bias": Layout("bias", _same, _same),
    },
    FlattenLinear: FLATTENED,
    PooledLinear: FLATTENED,
    Convolution: CONVOLUTION | {"kernel": Layout("weight", _to_kernel, _hwio_to_oihw)},
    PatchConvolution: CONVOLUTION,
    DepthwiseConvolution: CONVOLUTION,
    BatchNorm: {
        name: Layout(name, _same, _same)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    },
}
