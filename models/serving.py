"""How models are served: the precision of a version's predictions; when a model is loaded, and its bounds."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from models.framework import EngineName

ServingPrecision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[ServingPrecision, ...] = get_args(ServingPrecision)
Loading = Literal["on_demand", "at_start", "pinned"]
MOST_ROWS = 4096
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


class ModelServing(BaseModel):
    """Of a model, whatever its version. `load`: for the first request; when a process starts, and when the name alone
    comes to mean another version; or so and never to make room for others. The bounds are the server's where they are
    None."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    load: Loading = "on_demand"
    max_batch_rows: int | None = Field(default=None, ge=1, le=MOST_ROWS)
    max_waiting_predictions: int | None = Field(default=None, ge=1, le=2**20)
