"""Dropout from `models.noise`, in PyTorch. Counterpart: `models.frameworks.jax.noise`.

A network is built with torch's own dropout modules; `Noise` puts these in their places, by name.
"""

from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from models.noise import FIRST, SECOND, SHIFT, SPREAD, mixed, site_key, threshold

LARGEST_CACHED = 1 << 24
"""Elements of a tensor up to which the first half of the hash is kept from step to step: 64 MiB."""


class Elements:
    """`i * SPREAD` for the elements of a tensor; equal for all tensors, so it is computed once."""

    def __init__(self) -> None:
        self._spread = torch.empty(0, dtype=torch.int32)

    def spread(self, count: int, device: torch.device) -> Tensor:
        """int32 [count], not to be written to."""
        if count > LARGEST_CACHED:
            return _spread(count, device)
        if len(self._spread) < count or self._spread.device != device:
            self._spread = _spread(count, device)
        return self._spread[:count]


def _spread(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=torch.int32, device=device).mul_(SPREAD)


class SeededDropout(nn.Module):
    """`torch.nn.Dropout` whose choice depends on the step and on where it stands."""

    def __init__(self, rate: float, elements: Elements) -> None:
        super().__init__()
        self.p, self.key = rate, 0  # `p`, for some networks look at their dropout modules
        self._elements = elements

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape; elements are numbered in row-major order."""
        return x * self._mask(tuple(x.shape), x) if self.training and self.p else x

    def _mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """0 or 1 / (1 - rate)."""
        if self.p == 1:
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        h = self._elements.spread(prod(shape), like.device) + self.key
        h.bitwise_xor_(h.bitwise_right_shift(SHIFT)).mul_(FIRST)
        h.bitwise_xor_(h.bitwise_right_shift(SHIFT)).mul_(SECOND)
        kept = h.ge_(threshold(self.p)).to(like.dtype)
        return kept.mul_(1 / (1 - self.p)).view(shape)


class SeededStochasticDepth(SeededDropout):
    """torchvision's StochasticDepth by rows: drops whole samples. Source: https://arxiv.org/abs/1603.09382"""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, ...]."""
        rows = (x.shape[0], *(1 for _ in x.shape[1:]))
        return x * self._mask(rows, x) if self.training and self.p else x


class Noise:
    """The dropout modules of a network, which all change with the step."""

    def __init__(self, network: nn.Module) -> None:
        """Replaces torch's and torchvision's modules in the network."""
        elements = Elements()
        self._modules: list[SeededDropout] = []
        sites = []
        for name, module in list(network.named_modules()):
            if (seeded := _seeded(module, elements)) is not None:
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, seeded)
                self._modules.append(seeded)
                sites.append(site_key(name))
        self._sites = np.array(sites, np.int32)

    def at(self, step_key: int) -> None:
        """Draw anew from here on, for the step with this key."""
        if self._modules:
            for module, key in zip(
                self._modules, mixed(self._sites ^ np.int32(step_key)).tolist(), strict=True
            ):
                module.key = key


def _seeded(module: nn.Module, elements: Elements) -> SeededDropout | None:
    if isinstance(module, nn.Dropout):
        return SeededDropout(module.p, elements)
    # By name: importing torchvision takes half a second, which a network without it need not pay.
    if type(module).__name__ == "StochasticDepth" and getattr(module, "mode", None) == "row":
        return SeededStochasticDepth(float(module.p), elements)  # type: ignore[arg-type]
    return None
