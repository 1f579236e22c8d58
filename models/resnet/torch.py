"""Residual networks in PyTorch: torchvision's own. Twin: jax.py.

Source: He et al. 2015, https://arxiv.org/abs/1512.03385; code and names are torchvision's.
"""

from torch import nn

from models.frameworks.torch.vision import torchvision
from models.resnet.spec import STEM, ResNetSpec
from models.signature import ImageInput, Signature


def build(spec: ResNetSpec, signature: Signature) -> nn.Module:
    """torchvision's network with the spec's stem; it takes x_BCHW, normalised, and gives logits_BK."""
    assert isinstance(signature.input, ImageInput)
    parts = torchvision.models.resnet
    block = parts.BasicBlock if spec.expansion == 1 else parts.Bottleneck
    network: nn.Module = parts.ResNet(block, list(spec.blocks), num_classes=signature.outputs)
    if spec.stem == "cifar":
        network.conv1 = nn.Conv2d(signature.input.channels, STEM, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif signature.input.channels != 3:
        network.conv1 = nn.Conv2d(signature.input.channels, STEM, 7, stride=2, padding=3, bias=False)
    return network
