"""Milliseconds an image of 3x3 convolutions in JAX on the CPU, as XLA has them and by Winograd's algorithm.

    NPROC=1 taskset -c 0 python -m benchmarks.convolutions --batches 1 16

One core, as the variable and the command say, is what a prediction has where others compute beside it. Each row is a
layer (channels in and out, pixels a side), with the tile that Tandem would take for it; `--tiles` tries others.
"""

import argparse
from collections.abc import Callable
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np

from models.frameworks.jax.compilation import Compiler
from models.frameworks.jax.winograd import convolve
from models.winograd import TRANSFORMS, best_tile, transformed

LAYERS = (
    "64,64,32",
    "128,128,16",
    "256,256,8",
    "512,512,4",
    "64,64,56",
    "512,512,7",
    "256,256,56",
    "512,512,28",
)
"""Of ResNet-18 for small images, of ResNet-50 (3x3 at 56 and 7 pixels), and of VGG-16."""


def plain(x_BHWI: jax.Array, kernel_HWIO: jax.Array) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_BHWI, kernel_HWIO, (1, 1), ((1, 1), (1, 1)), dimension_numbers=dimensions
    )


def measured(function: Callable[..., jax.Array], *arguments: jax.Array, repeats: int) -> float:
    """The least seconds of a call, compiled as it is for predictions."""
    compiled = Compiler(jax.devices("cpu")[0], convolves=True).compile(function, *arguments)
    compiled(*arguments).block_until_ready()
    found = []
    for _ in range(repeats):
        began = perf_counter()
        compiled(*arguments).block_until_ready()
        found.append(perf_counter() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="IN,OUT,SIDE")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tiles", type=int, nargs="*", choices=list(TRANSFORMS))
    parser.add_argument("--repeats", type=int, default=10)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    for layer in asked.layers:
        inputs, outputs, side = map(int, layer.split(","))
        kernel = generator.standard_normal((3, 3, inputs, outputs), np.float32)
        best = best_tile(inputs, outputs, side, side)
        for batch in asked.batches:
            x = jnp.asarray(generator.standard_normal((batch, side, side, inputs), np.float32))
            theirs = measured(plain, x, jnp.asarray(kernel), repeats=asked.repeats)
            print(f"{layer:<12} batch {batch:>2}: plain {theirs / batch * 1e3:7.3f} ms", end="")
            for tile in asked.tiles or ([best] if best else []):
                tiled = partial(convolve, tile=tile)
                ours = measured(tiled, x, jnp.asarray(transformed(kernel, tile)), repeats=asked.repeats)
                print(f", tile {tile} {ours / batch * 1e3:7.3f} ms, ratio {theirs / ours:.2f}", end="")
            print("" if best else ", the plain one is taken", flush=True)


if __name__ == "__main__":
    main()
