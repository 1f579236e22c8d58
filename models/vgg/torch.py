"""VGG in PyTorch: torchvision's own. Twin: jax.py.

Source: Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556; code and names are torchvision's.
"""

from torch import nn

from models.frameworks.torch.vision import torchvision
from models.signature import ImageInput, Signature
from models.vgg.spec import POOLED, VGGSpec


def build(spec: VGGSpec, signature: Signature) -> nn.Module:
    """torchvision's network with the spec's widths; it takes x_BCHW, normalised, and gives logits_BK."""
    assert isinstance(signature.input, ImageInput)
    layers = spec.layers(signature.input.channels)
    features = torchvision.models.vgg.make_layers([layer.outputs if layer else "M" for layer in layers])
    features[0] = nn.Conv2d(signature.input.channels, spec.width, 3, padding=1)
    network: nn.Module = torchvision.models.VGG(
        features, signature.outputs, init_weights=False, dropout=spec.dropout
    )
    assert isinstance(network.classifier, nn.Sequential)
    network.classifier[0] = nn.Linear(spec.features * POOLED**2, spec.hidden)
    network.classifier[3] = nn.Linear(spec.hidden, spec.hidden)
    network.classifier[6] = nn.Linear(spec.hidden, signature.outputs)
    return network
