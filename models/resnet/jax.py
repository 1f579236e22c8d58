"""Residual networks in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, C channels, K classes.
Source: He et al. 2015, https://arxiv.org/abs/1512.03385; names follow torchvision.
"""

import jax
from flax import nnx

from models.frameworks.jax.convolutions import convolution
from models.frameworks.jax.layers import BatchNorm, DType, linear
from models.frameworks.jax.pooling import global_average_pool, max_pool
from models.resnet.spec import STAGES, ResNetSpec
from models.signature import ImageInput, Signature


class BasicBlock(nnx.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, dtype: DType) -> None:
        self.conv1 = convolution(inputs, outputs, 3, dtype, stride=stride)
        self.bn1 = BatchNorm(outputs, dtype)
        self.conv2 = convolution(outputs, outputs, 3, dtype)
        self.bn2 = BatchNorm(outputs, dtype)
        self.downsample: nnx.List[nnx.Module] | None = nnx.data(None)
        if stride != 1 or inputs != outputs:
            shortcut = convolution(inputs, outputs, 1, dtype, stride=stride)
            self.downsample = nnx.List([shortcut, BatchNorm(outputs, dtype)])

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        y_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        y_BHWC = self.bn2(self.conv2(y_BHWC), training)
        return nnx.relu(y_BHWC + self._shortcut(x_BHWC, training))

    def _shortcut(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        if self.downsample is None:
            return x_BHWC
        conv, bn = self.downsample
        shortcut: jax.Array = bn(conv(x_BHWC), training)
        return shortcut


class ResNet(nnx.Module):
    def __init__(self, spec: ResNetSpec, channels: int, classes: int, dtype: DType) -> None:
        self.imagenet = spec.stem == "imagenet"
        kernel, stride = (7, 2) if self.imagenet else (3, 1)
        self.conv1 = convolution(channels, 64, kernel, dtype, stride=stride)
        self.bn1 = BatchNorm(64, dtype)
        widths = (64, *(outputs for outputs, _ in STAGES))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(inputs, outputs, stride, blocks, dtype)
            for inputs, (outputs, stride), blocks in zip(widths[:-1], STAGES, spec.blocks, strict=True)
        )
        self.fc = linear(widths[-1], classes, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        x_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        if self.imagenet:
            x_BHWC = max_pool(x_BHWC, 3, 2, margin=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x_BHWC = block(x_BHWC, training)
        return self.fc(global_average_pool(x_BHWC))


def _stage(inputs: int, outputs: int, stride: int, blocks: int, dtype: DType) -> nnx.List[BasicBlock]:
    first = BasicBlock(inputs, outputs, stride, dtype)
    return nnx.List([first, *(BasicBlock(outputs, outputs, 1, dtype) for _ in range(1, blocks))])


def build(spec: ResNetSpec, signature: Signature, dtype: DType) -> ResNet:
    assert isinstance(signature.input, ImageInput)
    return ResNet(spec, signature.input.channels, signature.outputs, dtype)
