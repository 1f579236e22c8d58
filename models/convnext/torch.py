"""ConvNeXt in PyTorch: torchvision's own. Twin: jax.py.

Source: Liu et al. 2022, https://arxiv.org/abs/2201.03545; code and names are torchvision's.
"""

from torch import nn

from models.convnext.spec import LAYER_SCALE, STEM_PATCH, ConvNeXtSpec
from models.frameworks.torch.vision import torchvision
from models.signature import ImageInput, Signature


def build(spec: ConvNeXtSpec, signature: Signature) -> nn.Module:
    """torchvision's network of the spec's size; it takes x_BCHW, normalised, and gives logits_BK."""
    assert isinstance(signature.input, ImageInput)
    stages = [
        torchvision.models.convnext.CNBlockConfig(width, following, depth)
        for width, following, depth in zip(spec.widths, (*spec.widths[1:], None), spec.depths, strict=True)
    ]
    network: nn.Module = torchvision.models.ConvNeXt(
        stages, spec.stochastic_depth, LAYER_SCALE, signature.outputs
    )
    if signature.input.channels != 3:
        first = nn.Conv2d(signature.input.channels, spec.widths[0], STEM_PATCH, stride=STEM_PATCH)
        network.get_submodule("features.0")[0] = first  # type: ignore[operator]
    return network
