"""Residual networks in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, C channels, K classes.
Source: He et al. 2015, https://arxiv.org/abs/1512.03385; names follow torchvision.
"""

import jax
from flax import nnx

from models.frameworks.jax.convolutions import convolution
from models.frameworks.jax.layers import BatchNorm, DType, linear
from models.frameworks.jax.pooling import global_average_pool, max_pool
from models.resnet.spec import STAGES, STEM, ResNetSpec
from models.signature import ImageInput, Signature


class BasicBlock(nnx.Module):
    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, dtype: DType) -> None:
        self.conv1 = convolution(inputs, channels, 3, dtype, stride=stride)
        self.bn1 = BatchNorm(channels, dtype)
        self.conv2 = convolution(channels, channels, 3, dtype)
        self.bn2 = BatchNorm(channels, dtype)
        self.downsample = _downsample(inputs, channels, stride, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        y_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        y_BHWC = self.bn2(self.conv2(y_BHWC), training)
        return nnx.relu(y_BHWC + _shortcut(self.downsample, x_BHWC, training))


class Bottleneck(nnx.Module):
    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, dtype: DType) -> None:
        outputs = channels * self.expansion
        self.conv1 = convolution(inputs, channels, 1, dtype)
        self.bn1 = BatchNorm(channels, dtype)
        # The published weights stride here; the paper did so in the 1x1 convolution before.
        self.conv2 = convolution(channels, channels, 3, dtype, stride=stride)
        self.bn2 = BatchNorm(channels, dtype)
        self.conv3 = convolution(channels, outputs, 1, dtype)
        self.bn3 = BatchNorm(outputs, dtype)
        self.downsample = _downsample(inputs, outputs, stride, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        y_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        y_BHWC = nnx.relu(self.bn2(self.conv2(y_BHWC), training))
        y_BHWC = self.bn3(self.conv3(y_BHWC), training)
        return nnx.relu(y_BHWC + _shortcut(self.downsample, x_BHWC, training))


class ResNet(nnx.Module):
    def __init__(self, spec: ResNetSpec, channels: int, classes: int, dtype: DType) -> None:
        self.imagenet = spec.stem == "imagenet"
        kernel, stride = (7, 2) if self.imagenet else (3, 1)
        self.conv1 = convolution(channels, STEM, kernel, dtype, stride=stride)
        self.bn1 = BatchNorm(STEM, dtype)
        block = BasicBlock if spec.expansion == 1 else Bottleneck
        inputs = (STEM, *(channels * spec.expansion for channels, _ in STAGES[:-1]))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, taken, channels, stride, blocks, dtype)
            for taken, (channels, stride), blocks in zip(inputs, STAGES, spec.blocks, strict=True)
        )
        self.fc = linear(spec.features, classes, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        x_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        if self.imagenet:
            x_BHWC = max_pool(x_BHWC, 3, 2, margin=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x_BHWC = block(x_BHWC, training)
        return self.fc(global_average_pool(x_BHWC))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    channels: int,
    stride: int,
    blocks: int,
    dtype: DType,
) -> nnx.List[BasicBlock | Bottleneck]:
    outputs = channels * block.expansion
    first = block(inputs, channels, stride, dtype)
    return nnx.List([first, *(block(outputs, channels, 1, dtype) for _ in range(1, blocks))])


def _downsample(inputs: int, outputs: int, stride: int, dtype: DType) -> nnx.List[nnx.Module] | None:
    """What fits the shortcut to the block's result; None where it fits as it is."""
    if stride == 1 and inputs == outputs:
        return None
    return nnx.List([convolution(inputs, outputs, 1, dtype, stride=stride), BatchNorm(outputs, dtype)])


def _shortcut(downsample: nnx.List[nnx.Module] | None, x_BHWC: jax.Array, training: bool) -> jax.Array:
    if downsample is None:
        return x_BHWC
    conv, bn = downsample
    shortcut: jax.Array = bn(conv(x_BHWC), training)
    return shortcut


def build(spec: ResNetSpec, signature: Signature, dtype: DType) -> ResNet:
    assert isinstance(signature.input, ImageInput)
    return ResNet(spec, signature.input.channels, signature.outputs, dtype)
