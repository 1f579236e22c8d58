"""Checkpoints that others have published, by reference: where they are is known to the library that they come from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    name: what `init.from.pretrained` calls it. library: who knows where it is. reference: what that library calls it,
    e.g. torchvision's 'ResNet50_Weights.IMAGENET1K_V2' or Hugging Face's 'distilbert/distilbert-base-uncased'.
    mean, std: per channel of pixels scaled to 0..1, what images were normalised with; None for texts.
    """

    name: str
    library: Literal["torchvision", "huggingface"]
    reference: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_SIDE = 224
"""Pixels a side of the images that torchvision's checkpoints are evaluated on."""


def imagenet(reference: str) -> Published:
    """One of torchvision's, e.g. 'ResNet50_Weights.IMAGENET1K_V2'; the name is what stands after the dot."""
    name = reference.partition(".")[2]
    return Published(name, "torchvision", reference, IMAGENET_MEAN, IMAGENET_STD)
