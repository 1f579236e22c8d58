"""What happens to raw samples on the device before the network sees them.

Shape suffixes: B batch, H height, W width, C channels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from models.plan import crop_padding


def augmented(x_BHWC: jax.Array, flips_B: jax.Array | None, offsets_B2: jax.Array | None) -> jax.Array:
    """Raw images, cropped out of their zero-padded selves and then mirrored; None: leave out."""
    if offsets_B2 is not None:
        x_BHWC = _cropped(x_BHWC, offsets_B2)
    if flips_B is not None:
        x_BHWC = jnp.where(flips_B[:, None, None, None], x_BHWC[:, :, ::-1], x_BHWC)
    return x_BHWC


def _cropped(x_BHWC: jax.Array, offsets_B2: jax.Array) -> jax.Array:
    size = x_BHWC.shape[1:]
    margin = crop_padding(size[0])
    padded = jnp.pad(x_BHWC, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    corners_B3 = jnp.pad(offsets_B2, ((0, 0), (0, 1)))
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, size))(padded, corners_B3)


def normalised(
    x: jax.Array, mean: jax.Array | np.ndarray | None, inverse_std: jax.Array | np.ndarray | None
) -> jax.Array:
    """(x - mean) * inverse_std in the dtype of `mean`; tokens, which have neither, go in as they are."""
    if mean is None or inverse_std is None:
        return x
    return (x.astype(mean.dtype) - mean) * inverse_std
