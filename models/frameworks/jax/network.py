"""A Flax network as pure functions over canonical names."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.architecture import Spec, Tensor
from models.catalog import declarations, implementation
from models.frameworks.jax.convolutions import choose_tiles
from models.frameworks.jax.layers import BatchNorm, DType, master_dtype
from models.frameworks.jax.layout import places
from models.frameworks.jax.noise import Dropout, mixed
from models.noise import site_key
from models.signature import ImageInput, Signature
from models.training import Precision
from models.weights import Weights

Tensors = dict[str, jax.Array]
"""Tensors on the device by canonical name, in Flax's layout."""

DTYPES: Mapping[Precision, DType] = {
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
    "float64": jnp.float64,
}


class Network:
    """The structure of a network; its tensors are always passed in, so that every function is pure.

    Built within the scope of its precision (see `devices.scope`).
    """

    def __init__(
        self,
        spec: Spec,
        signature: Signature,
        precision: Precision,
        *,
        freezes_backbone: bool = False,
        winograd: bool = False,
    ) -> None:
        """`winograd`: for a network that only predicts; convolutions take fewer multiplications (`models.winograd`).
        Their kernels are transformed on the way to the device, and have no way back (`to_canonical`)."""
        dtype = DTYPES[precision]
        self.master = master_dtype(dtype)
        module = nnx.eval_shape(lambda: implementation(spec, "jax").build(spec, signature, dtype))
        if freezes_backbone:
            _freeze_statistics(module, spec)
        self.map_bytes = 0
        """Of the largest map of an image that a convolution takes or gives, with `winograd`; else 0."""
        if winograd and isinstance(signature.input, ImageInput):
            self.map_bytes = choose_tiles(module, (1, *signature.input.shape), dtype)
        self.graph, state = nnx.split(module)
        self.variables = dict(nnx.to_flat_state(state))
        self.places = places(module)
        self.declared = declarations(spec, signature)
        self.parameters = self._of_kind("parameter")
        self.learning = tuple(name for name in self.parameters if not freezes_backbone or spec.in_head(name))
        self.resting = tuple(name for name in self.parameters if name not in self.learning)
        self.sites = {
            (*path, "key"): np.int32(site_key(".".join(map(str, path))))
            for path, layer in nnx.iter_modules(module)
            if isinstance(layer, Dropout)
        }
        self.statistics = self._of_kind("statistic")
        self.convolves = any(isinstance(layer, nnx.Conv) for _, layer in nnx.iter_modules(module))

    def apply(
        self, tensors: Mapping[str, Any], x: jax.Array, training: bool, noise: Any = 0
    ) -> tuple[jax.Array, Tensors]:
        """Logits [B, K] in the master dtype, and the statistics afterwards. x: normalised [B, ...]. noise: int32, the
        step's key for dropout (see `models.noise`)."""
        values = {place.path: tensors[name] for name, place in self.places.items()}
        values |= {path: mixed(jnp.asarray(noise, jnp.int32) ^ site) for path, site in self.sites.items()}
        state = nnx.from_flat_state(
            (path, self.variables[path].replace(value)) for path, value in values.items()
        )
        module: Any = nnx.merge(self.graph, state)
        logits = module(x, training=training).astype(self.master)
        after = dict(nnx.to_flat_state(nnx.state(module)))
        return logits, {name: after[self.places[name].path][...] for name in self.statistics}

    def to_device(self, arrays: Weights, device: jax.Device) -> Tensors:
        """Canonical arrays (all, or some of them) in Flax's layout on the device."""
        return {name: jax.device_put(self._flax(name, array), device) for name, array in arrays.items()}

    def to_canonical(self, tensors: Mapping[str, jax.Array]) -> Weights:
        """Copies on the host in torch's layout, in the order of the `state_dict`."""
        return {name: self._torch(name, tensors[name]) for name in self.declared if name in tensors}

    def _of_kind(self, kind: str) -> tuple[str, ...]:
        return tuple(name for name, tensor in self.declared.items() if tensor.kind == kind)

    def _flax(self, name: str, array: np.ndarray) -> np.ndarray:
        dtype = np.int32 if _counts(self.declared[name]) else self.master
        return np.array(self.places[name].to_flax(array), dtype, order="C", copy=True)

    def _torch(self, name: str, tensor: jax.Array) -> np.ndarray:
        array = self.places[name].to_torch(np.asarray(tensor))
        dtype = np.int64 if _counts(self.declared[name]) else array.dtype
        return np.array(array, dtype, order="C", copy=True)


def _freeze_statistics(module: nnx.Module, spec: Spec) -> None:
    """BatchNorm outside the head takes its running statistics in training too, and leaves them as they are."""
    for path, layer in nnx.iter_modules(module):
        if isinstance(layer, BatchNorm) and not spec.in_head(".".join(map(str, (*path, "")))):
            layer.frozen = True


def _counts(tensor: Tensor) -> bool:
    """JAX has no int64 outside the 64-bit mode, so counters are int32 on the device."""
    return np.issubdtype(tensor.dtype, np.integer)
