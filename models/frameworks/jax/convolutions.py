"""Convolutions of the JAX twins, with torch's padding, in the forms that are fast.

On a CPU, XLA has one good form of a convolution and one that is hundreds of times slower. The slow one is taken for
groups, and where the maps are no larger than the kernel (measured on a 2-core AMD EPYC, batch 32, forward and
backward: 3x3 over 512 channels of 2x2 pixels 394 ms, as a matrix product 9 ms; depthwise 7x7 over 96 channels of 16x16
pixels 403 ms, as here 14 ms). So those are written in other ways.

Shape suffixes: B batch, H height, W width, C channels, I inputs, O outputs; y, x pixels of a tile.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.frameworks.jax.layers import DType, master_dtype
from models.frameworks.jax.winograd import convolve
from models.winograd import SIZE, SMALLEST, best_tile

_ZEROS = nnx.initializers.zeros_init()
LARGEST_SMALL = SMALLEST - 1
"""Maps of up to so many pixels a side are multiplied as matrices."""
TILE = 8
"""Pixels a side of the tiles over which a depthwise kernel's gradient is summed."""


class Convolution(nnx.Conv):
    """`torch.nn.Conv2d`: [B, H, W, I] -> [B, H', W', O], zero-padded by half the kernel on each side.

    The padding is explicit: Flax's 'SAME' is not symmetric at stride 2, torch's is. With a `tile` the kernel is
    `models.winograd.transformed`.
    """

    tile: int | None = None
    tell_shape: Callable[[tuple[int, ...]], None] | None = None
    """Called with the shape of each input."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dtype: DType, *, stride: int = 1, bias: bool = False
    ) -> None:
        margin = kernel // 2
        super().__init__(
            inputs,
            outputs,
            (kernel, kernel),
            strides=stride,
            padding=((margin, margin), (margin, margin)),
            use_bias=bias,
            dtype=dtype,
            param_dtype=master_dtype(dtype),
            kernel_init=_ZEROS,
            rngs=nnx.Rngs(0),
        )
        self.size, self.stride, self.computes_in = kernel, stride, dtype

    def __call__(self, x_BHWI: jax.Array) -> jax.Array:  # type: ignore[override]
        if self.tell_shape is not None:
            self.tell_shape(x_BHWI.shape)
        sides = (-(-side // self.stride) for side in x_BHWI.shape[1:3])
        if self.tile is None and (self.size == 1 or min(sides) > LARGEST_SMALL):
            return super().__call__(x_BHWI)
        x_BHWI = x_BHWI.astype(self.computes_in)
        kernel, tile = self.kernel[...], self.tile
        y_BHWO = self._as_matrices(x_BHWI) if tile is None else convolve(x_BHWI, kernel, tile)
        return y_BHWO if self.bias is None else y_BHWO + self.bias[...].astype(self.computes_in)

    def _as_matrices(self, x_BHWI: jax.Array) -> jax.Array:
        """Every place of the kernel that meets a pixel: these pixels side by side, times their rows of it."""
        margin = self.size // 2
        rows, columns = (_meetings(side, self.size, self.stride) for side in x_BHWI.shape[1:3])
        padded = jnp.pad(x_BHWI, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        kernel = self.kernel[...].astype(self.computes_in)
        pixels = [
            padded[:, top : top + self.stride * (height - 1) + 1 : self.stride][
                :, :, left : left + self.stride * (width - 1) + 1 : self.stride
            ]
            for (top, height), (left, width) in product(rows, columns)
        ]
        weights_IO = [kernel[top, left] for (top, _), (left, _) in product(rows, columns)]
        return jnp.concatenate(pixels, axis=-1) @ jnp.concatenate(weights_IO, axis=0)


def _meetings(side: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Places along one side of a kernel at which it ever meets a pixel and not only padding, each with the number
    of outputs along that side."""
    margin = size // 2
    outputs = (side + 2 * margin - size) // stride + 1
    return [
        (place, outputs)
        for place in range(size)
        if any(margin <= place + stride * output < margin + side for output in range(outputs))
    ]


def choose_tiles(network: nnx.Module, shape: tuple[int, ...], dtype: DType) -> int:
    """Give each convolution of a network that predicts from an image, [1, H, W, C], the tile that is best for it.

    Returns the size of the largest map of one image that a convolution takes or gives, in bytes of float32.
    """
    layers = [layer for _, layer in nnx.iter_modules(network) if isinstance(layer, Convolution)]
    shapes: dict[int, tuple[int, ...]] = {}
    for number, layer in enumerate(layers):
        layer.tell_shape = partial(shapes.__setitem__, number)
    graph, state = nnx.split(network)
    jax.eval_shape(lambda state: nnx.merge(graph, state)(jnp.zeros(shape, dtype), training=False), state)
    largest = 0
    for number, layer in enumerate(layers):
        layer.tell_shape = None
        _, height, width, inputs = shapes[number]
        if layer.size == SIZE and layer.stride == 1:
            layer.tile = best_tile(inputs, layer.out_features, height, width)
        pixels = height * width
        largest = max(largest, 4 * pixels * inputs, 4 * pixels * layer.out_features // layer.stride**2)
    return largest


def convolution(inputs: int, outputs: int, kernel: int, dtype: DType, *, stride: int = 1) -> Convolution:
    """Without bias, as before BatchNorm."""
    return Convolution(inputs, outputs, kernel, dtype, stride=stride)


class PatchConvolution(nnx.Conv):
    """`torch.nn.Conv2d` whose stride is its kernel: each patch of pixels, times one matrix.

    [B, H, W, I] -> [B, H // size, W // size, O]; what is left over at the right and below is dropped.
    """

    def __init__(self, inputs: int, outputs: int, size: int, dtype: DType) -> None:
        super().__init__(
            inputs,
            outputs,
            (size, size),
            strides=size,
            padding="VALID",
            param_dtype=master_dtype(dtype),
            kernel_init=_ZEROS,
            rngs=nnx.Rngs(0),
        )
        self.size, self.computes_in = size, dtype

    def __call__(self, x_BHWI: jax.Array) -> jax.Array:  # type: ignore[override]
        assert self.bias is not None
        batch, height, width, inputs = x_BHWI.shape
        size, rows, columns = self.size, height // self.size, width // self.size
        x_BHWI = x_BHWI[:, : rows * size, : columns * size].astype(self.computes_in)
        patches = x_BHWI.reshape(batch, rows, size, columns, size, inputs).swapaxes(2, 3)
        kernel = self.kernel[...].astype(self.computes_in).reshape(size * size * inputs, -1)
        y_BHWO = patches.reshape(batch, rows, columns, -1) @ kernel
        return y_BHWO + self.bias[...].astype(self.computes_in)


class DepthwiseConvolution(nnx.Conv):
    """`torch.nn.Conv2d` with a group a channel, stride 1: [B, H, W, C] -> [B, H, W, C], zero-padded as ever."""

    def __init__(self, channels: int, size: int, dtype: DType) -> None:
        super().__init__(
            channels,
            channels,
            (size, size),
            feature_group_count=channels,
            param_dtype=master_dtype(dtype),
            kernel_init=_ZEROS,
            rngs=nnx.Rngs(0),
        )
        self.computes_in = dtype

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:  # type: ignore[override]
        assert self.bias is not None
        kernel_HWC = self.kernel[...][:, :, 0]
        # Sums of many products: never in bfloat16.
        x_BHWC = x_BHWC.astype(kernel_HWC.dtype)
        y_BHWC: jax.Array = jax.lax.platform_dependent(x_BHWC, kernel_HWC, cpu=depthwise, default=grouped)
        y_BHWC = y_BHWC + self.bias[...]
        return y_BHWC.astype(self.computes_in)


def grouped(x_BHWC: jax.Array, kernel_HWC: jax.Array) -> jax.Array:
    """The same as one operation of XLA."""
    margin = kernel_HWC.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_HWC[:, :, None],
        (1, 1),
        ((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_BHWC.shape[-1],
    )


@jax.custom_vjp
def depthwise(x_BHWC: jax.Array, kernel_HWC: jax.Array) -> jax.Array:
    """x, shifted to every place of the kernel, times what stands there, summed."""
    _, height, width, _ = x_BHWC.shape
    size = kernel_HWC.shape[0]
    padded = _padded(x_BHWC, size // 2)
    shifted = (
        padded[:, top : top + height, left : left + width] * kernel_HWC[top, left]
        for top, left in product(range(size), repeat=2)
    )
    total = next(shifted)
    for term in shifted:
        total = total + term
    return total


def _forward(x_BHWC: jax.Array, kernel_HWC: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x_BHWC, kernel_HWC), (x_BHWC, kernel_HWC)


def _backward(kept: tuple[jax.Array, jax.Array], gradient_BHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of x: the same with the kernel turned round. Of the kernel: see `_kernel_gradient`."""
    x_BHWC, kernel_HWC = kept
    return (
        depthwise(gradient_BHWC, kernel_HWC[::-1, ::-1]),
        _kernel_gradient(x_BHWC, gradient_BHWC, kernel_HWC.shape[0]),
    )


depthwise.defvjp(_forward, _backward)


def _kernel_gradient(x_BHWC: jax.Array, gradient_BHWC: jax.Array, size: int) -> jax.Array:
    """[size, size, C], the sum over all pixels of x, shifted, times the gradient.

    XLA sums each of the 49 places of a 7x7 kernel on its own, which takes seven times as long as this: within tiles,
    every pixel of x (and of its margin) times every pixel of the gradient, as one matrix product a channel; then
    the sum over those pairs that lie equally far apart.
    """
    margin = size // 2
    height, width = (min(side, TILE) for side in x_BHWC.shape[1:3])
    gradients = _tiles(gradient_BHWC, height, width, 0)
    pixels = _tiles(x_BHWC, height, width, margin)
    pairs = jnp.einsum("ijbYXc,ijbyxc->cYXyx", pixels, gradients)
    down, across = (_distances(side, size).astype(x_BHWC.dtype) for side in (height, width))
    return jnp.einsum("cYXyx,Yyh,Xxw->hwc", pairs, down, across)


def _tiles(x_BHWC: jax.Array, height: int, width: int, margin: int) -> jax.Array:
    """[rows, columns, B, height + 2 margin, width + 2 margin, C]: tiles with what surrounds them; zeros outside."""
    rows, columns = -(-x_BHWC.shape[1] // height), -(-x_BHWC.shape[2] // width)
    below, right = rows * height - x_BHWC.shape[1], columns * width - x_BHWC.shape[2]
    padded = jnp.pad(x_BHWC, ((0, 0), (margin, margin + below), (margin, margin + right), (0, 0)))
    strips = [padded[:, row * height : (row + 1) * height + 2 * margin] for row in range(rows)]
    stacked = jnp.stack(strips)
    return jnp.stack(
        [stacked[:, :, :, left * width : (left + 1) * width + 2 * margin] for left in range(columns)], axis=1
    )


def _distances(side: int, size: int) -> np.ndarray:
    """[side + size - 1, side, size]: 1 where the first index is the second plus the third."""
    first, second, third = np.ogrid[: side + size - 1, :side, :size]
    return np.asarray(first == second + third)


def _padded(x_BHWC: jax.Array, margin: int) -> jax.Array:
    return jnp.pad(x_BHWC, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
