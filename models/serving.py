"""How a version is served: the precision that its predictions are computed in."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from models.framework import EngineName

ServingPrecision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[ServingPrecision, ...] = get_args(ServingPrecision)
LEAST_AGREEMENT = 0.995
"""The share of a validation split that must keep its labels in a reduced precision."""


class Serving(BaseModel):
    """`agreement`: for each engine that was tried, the share of the validation split whose labels are those of
    float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    precision: ServingPrecision = "float32"
    agreement: Mapping[EngineName, float] = Field(default_factory=dict)

    def on(self, engine: EngineName) -> ServingPrecision:
        """What this engine computes in: float32, unless the precision that is wanted changes too few labels."""
        return self.precision if self.agreement.get(engine, 0.0) >= LEAST_AGREEMENT else "float32"
