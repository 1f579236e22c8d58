"""BatchNorm folded into the convolutions before it, for networks that only predict.

A convolution's output times a number for each channel, plus another, is a convolution with other weights. Source:
Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
"""

import logging

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

CLOSE = 1e-4
"""The largest difference of a logit that is taken, as a share of the largest logit (or of 1, where that is smaller)."""

log = logging.getLogger(__name__)


def folded(network: nn.Module, x: Tensor) -> nn.Module:
    """A network in evaluation mode that computes the same with fewer steps; the given one where it has no BatchNorm,
    cannot be traced, or where the other computes something else of x, a batch of its input in float32."""
    if not any(isinstance(part, nn.BatchNorm2d) for part in network.modules()):
        return network
    try:
        fewer: nn.Module = fuse(network)
    except Exception as error:  # noqa: BLE001 - whatever torch.fx cannot follow, the network itself computes
        log.info("BatchNorm is not folded: %s: %s", type(error).__name__, error)
        return network
    with torch.inference_mode():
        expected, found = network(x), fewer(x)
    scale = max(1.0, float(expected.abs().max()))
    if not float((found - expected).abs().max()) <= CLOSE * scale:  # NaN is not
        log.info("BatchNorm is not folded: the logits would differ")
        return network
    return fewer.to(memory_format=torch.channels_last)
