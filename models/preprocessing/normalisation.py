"""How raw input becomes what a network sees."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

# Anything smaller has no finite inverse in float32.
SMALLEST_STD = 1e-30
PositiveFloat = Annotated[float, Field(ge=SMALLEST_STD, allow_inf_nan=False)]


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) * inverse_std takes raw input to what the network sees. Both float32: [C] or [F]."""

    mean: np.ndarray
    inverse_std: np.ndarray
