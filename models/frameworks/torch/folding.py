"""BatchNorm folded into the convolutions before it, for networks that only predict.

A convolution's output times a number for each channel, plus another, is a convolution with other weights. Source:
Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
"""

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.signature import ImageInput

CLOSE = 1e-4
"""The largest difference of a logit that is taken, as a share of the largest logit (or of 1, where that is smaller)."""


def folded(network: nn.Module, x: Tensor) -> nn.Module:
    """A network in evaluation mode that computes the same with fewer steps; the given one where there is nothing to
    fold, or where the other would compute something else of x, a batch of its input in float32.

    torch.fx would find the pairs by tracing, but replaces `nn.Module.__call__` for all threads meanwhile, those that
    predict with other networks among them.
    """
    pairs = _pairs(network, x)
    if not pairs:
        return network
    fewer = deepcopy(network)
    for convolution, norm in pairs:
        first, second = fewer.get_submodule(convolution), fewer.get_submodule(norm)
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        fewer.set_submodule(convolution, fuse_conv_bn_eval(first, second))
        fewer.set_submodule(norm, nn.Identity())
    fewer = fewer.to(memory_format=torch.channels_last)
    return fewer if _is_same(network, fewer, x) else network


def noise(input: ImageInput, device: torch.device) -> Tensor:
    """Normalised images, float32 [2, C, H, W]; always the same."""
    generator = np.random.default_rng(0)
    shape = (2, input.channels, input.height, input.width)
    return torch.from_numpy(generator.standard_normal(shape, np.float32)).to(device)


def _pairs(network: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """The names of each convolution whose output goes into a BatchNorm, and of that, as seen in a run."""
    outputs: list[tuple[Tensor, str]] = []  # held, so that no other tensor takes the place of one
    pairs: list[tuple[str, str]] = []

    def made(name: str, _: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        outputs.append((output, name))

    def taken(name: str, _: nn.Module, given: tuple[Tensor], __: Tensor) -> None:
        pairs.extend((maker, name) for output, maker in outputs if output is given[0])

    hooks = [
        part.register_forward_hook(partial(made if isinstance(part, nn.Conv2d) else taken, name))
        for name, part in network.named_modules()
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        network(x)
    for hook in hooks:
        hook.remove()
    return pairs


def _is_same(network: nn.Module, fewer: nn.Module, x: Tensor) -> bool:
    with torch.inference_mode():
        expected, found = network(x), fewer(x)
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) <= CLOSE * scale  # NaN is not
