"""VGG, plain stacks of 3x3 convolutions. Source: Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Spec, Tensor, constant, convolution, linear, normal
from models.errors import InvalidInput
from models.published import Published, imagenet
from models.signature import ImageInput, Signature, Task

SMALLEST = 32
POOLED = 7
"""Pixels a side after the adaptive pooling, whatever the image's size."""
MULTIPLES = (1, 2, 4, 8, 8)
"""Channels of each stage in widths of the first; each ends with 2x2 max-pooling."""
PUBLISHED_WIDTH, PUBLISHED_HIDDEN = 64, 4096


@dataclass(frozen=True)
class Conv:
    """A 3x3 convolution: its place in `features`, which counts ReLUs and poolings too, and its channels."""

    place: int
    inputs: int
    outputs: int


class VGGSpec(Spec):
    """What the depths have in common: torchvision's VGG without BatchNorm, with its names and weights."""

    architecture: str
    width: Annotated[int, Field(ge=1, le=512, description="Channels of the first stage.")] = PUBLISHED_WIDTH
    hidden: Annotated[
        int, Field(ge=1, le=16384, description="Units of both hidden layers of the classifier.")
    ] = PUBLISHED_HIDDEN
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Share of hidden units that are zeroed in training.")
    ] = 0.5

    tasks: ClassVar[tuple[Task, ...]] = ("image-classification",)
    depths: ClassVar[tuple[int, int, int, int, int]]
    """Convolutions in each stage."""
    checkpoints: ClassVar[tuple[Published, ...]]

    @property
    def features(self) -> int:
        """Channels after the last stage."""
        return self.width * MULTIPLES[-1]

    def layers(self, channels: int) -> list[Conv | None]:
        """What `features` is made of, in order, for images of so many channels: convolutions, each followed by a
        ReLU, and poolings (None)."""
        found: list[Conv | None] = []
        place, inputs = 0, channels
        for multiple, depth in zip(MULTIPLES, self.depths, strict=True):
            for _ in range(depth):
                found.append(Conv(place, inputs, self.width * multiple))
                place, inputs = place + 2, self.width * multiple
            found.append(None)
            place += 1
        return found

    def check(self, signature: Signature) -> None:
        super().check(signature)
        assert isinstance(signature.input, ImageInput)
        if min(signature.input.height, signature.input.width) < SMALLEST:
            raise InvalidInput(
                f"{self.name!r} halves images five times, so it takes them from {SMALLEST}x{SMALLEST} pixels; this"
                f" dataset has {signature.input}. Set 'preprocess.size' to [{SMALLEST}, {SMALLEST}] or more, or use"
                " 'cnn'.",
                pointer="/model/architecture",
                code="shape_mismatch",
            )

    def head(self) -> tuple[str, ...]:
        return ("classifier.6.",)

    def published(self) -> tuple[Published, ...]:
        same = (self.width, self.hidden) == (PUBLISHED_WIDTH, PUBLISHED_HIDDEN)
        return self.checkpoints if same else ()

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        assert isinstance(signature.input, ImageInput)
        for layer in self.layers(signature.input.channels):
            if layer is not None:
                name = f"features.{layer.place}"
                yield from convolution(name, layer.inputs, layer.outputs, 3, bias=constant(0))
        widths = (self.features * POOLED**2, self.hidden, self.hidden, signature.outputs)
        for index in range(3):
            name, start = f"classifier.{3 * index}", normal(0.01)
            yield from linear(name, widths[index], widths[index + 1], weight=start, bias=constant(0))

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 128,
            "optimizer": {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": {"name": "cosine", "warmup_steps": 100},
        }


class VGG11Spec(VGGSpec):
    """torchvision's VGG-11 without BatchNorm, with its names and weights."""

    architecture: Literal["vgg11"] = "vgg11"

    title: ClassVar[str] = "VGG-11"
    depths: ClassVar[tuple[int, int, int, int, int]] = (1, 1, 2, 2, 2)
    checkpoints: ClassVar[tuple[Published, ...]] = (imagenet("VGG11_Weights.IMAGENET1K_V1"),)


class VGG16Spec(VGGSpec):
    """torchvision's VGG-16 without BatchNorm, with its names and weights."""

    architecture: Literal["vgg16"] = "vgg16"

    title: ClassVar[str] = "VGG-16"
    depths: ClassVar[tuple[int, int, int, int, int]] = (2, 2, 3, 3, 3)
    checkpoints: ClassVar[tuple[Published, ...]] = (imagenet("VGG16_Weights.IMAGENET1K_V1"),)
