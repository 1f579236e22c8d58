"""Position embeddings of a vision transformer, carried over to images of another size."""

from math import isqrt

import numpy as np

# Of the cubic convolution kernel; torch's choice. Source: Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711.
A = -0.75


def interpolated(embeddings_1TC: np.ndarray, tokens: int) -> np.ndarray:
    """Embeddings of a class token and a square grid of patches, float32 [1, 1 + n*n, C], for `tokens` = 1 + m*m.

    The class token's stays. The grid is interpolated bicubically, corner on corner, as torchvision's
    `interpolate_embeddings` does.

    Raises:
        ValueError: one of the two grids is not square.
    """
    old, new = _side(embeddings_1TC.shape[1]), _side(tokens)
    channels = embeddings_1TC.shape[2]
    grid_HWC = embeddings_1TC[0, 1:].reshape(old, old, channels).astype(np.float64)
    weights_NO = _cubic_weights(old, new)
    resized_HWC = np.einsum("ih,jw,hwc->ijc", weights_NO, weights_NO, grid_HWC, optimize=True)
    patches_1TC = resized_HWC.reshape(1, new * new, channels).astype(embeddings_1TC.dtype)
    return np.concatenate([embeddings_1TC[:, :1], patches_1TC], axis=1)


def is_grid(tokens: int) -> bool:
    """Whether so many tokens are a class token and a square of patches."""
    return tokens > 1 and isqrt(tokens - 1) ** 2 == tokens - 1


def _side(tokens: int) -> int:
    if not is_grid(tokens):
        raise ValueError(f"{tokens} positions are not a class token and a square of patches")
    return isqrt(tokens - 1)


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """float64 [new, old]: how much each old place counts for each new one. Beyond the border the edge is repeated."""
    places = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    first = np.floor(places).astype(int)
    weights = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        columns = np.clip(first + offset, 0, old - 1)
        np.add.at(weights, (np.arange(new), columns), _kernel(np.abs(places - first - offset)))
    return weights


def _kernel(distance: np.ndarray) -> np.ndarray:
    near = ((A + 2) * distance - (A + 3)) * distance**2 + 1
    far = A * (((distance - 5) * distance + 8) * distance - 4)
    return np.asarray(np.where(distance <= 1, near, far))
