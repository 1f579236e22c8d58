"""Initial weights from the seed, in NumPy, so that both frameworks start equal."""

from hashlib import sha256

import numpy as np

from models.architecture import Spec, Tensor
from models.catalog import declarations
from models.signature import Signature
from models.weights import Weights


def initial_weights(spec: Spec, signature: Signature, seed: int) -> Weights:
    """Canonical tensors drawn by their declarations; each depends only on the seed and its own name."""
    return {name: drawn(tensor, seed) for name, tensor in declarations(spec, signature).items()}


def drawn(tensor: Tensor, seed: int) -> np.ndarray:
    """One tensor as a network starts with it from this seed."""
    key = int.from_bytes(sha256(f"{seed}/{tensor.name}".encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return np.asarray(tensor.draw(generator, tensor.shape), dtype=tensor.dtype)
