"""The small convolutional network in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, C channels, K classes.
"""

from itertools import pairwise

import jax
from flax import nnx

from models.cnn.spec import CNNSpec
from models.frameworks.jax.convolutions import convolution
from models.frameworks.jax.layers import BatchNorm, DType, linear
from models.frameworks.jax.pooling import global_average_pool, max_pool
from models.signature import Signature


class Stage(nnx.Module):
    def __init__(self, inputs: int, outputs: int, dtype: DType) -> None:
        self.conv1 = convolution(inputs, outputs, 3, dtype)
        self.bn1 = BatchNorm(outputs, dtype)
        self.conv2 = convolution(outputs, outputs, 3, dtype)
        self.bn2 = BatchNorm(outputs, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        x_BHWC = nnx.relu(self.bn1(self.conv1(x_BHWC), training))
        x_BHWC = nnx.relu(self.bn2(self.conv2(x_BHWC), training))
        return max_pool(x_BHWC, 2, 2)


class CNN(nnx.Module):
    def __init__(self, channels: tuple[int, ...], classes: int, dtype: DType) -> None:
        self.stages = nnx.List([Stage(inputs, outputs, dtype) for inputs, outputs in pairwise(channels)])
        self.fc = linear(channels[-1], classes, dtype)

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        for stage in self.stages:
            x_BHWC = stage(x_BHWC, training)
        return self.fc(global_average_pool(x_BHWC))


def build(spec: CNNSpec, signature: Signature, dtype: DType) -> CNN:
    return CNN(spec.channels(signature), signature.outputs, dtype)
