"""The vision transformer in PyTorch: torchvision's own. Twin: jax.py.

Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929; code and names are torchvision's.
"""

from torch import nn

from models.frameworks.torch.vision import torchvision
from models.signature import ImageInput, Signature
from models.vit.spec import ViTSpec


def build(spec: ViTSpec, signature: Signature) -> nn.Module:
    """torchvision's network for the signature's images; it takes x_BCHW, normalised, and gives logits_BK."""
    assert isinstance(signature.input, ImageInput)
    network: nn.Module = torchvision.models.VisionTransformer(
        image_size=signature.input.height,
        patch_size=spec.patch_size,
        num_layers=spec.layers,
        num_heads=spec.heads,
        hidden_dim=spec.hidden,
        mlp_dim=spec.mlp,
        dropout=spec.dropout,
        num_classes=signature.outputs,
    )
    if signature.input.channels != 3:
        size = spec.patch_size
        network.conv_proj = nn.Conv2d(signature.input.channels, spec.hidden, size, stride=size)
    return network
