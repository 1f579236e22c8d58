"""Which engine serves a version, and the evidence."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.prediction.evidence import Evidence as EvidenceRecord
from app.prediction.evidence import Verdict
from app.schemas.paging import Answer
from models.framework import EngineName
from models.serving import ServingPrecision
from workers.registry import ModelVersion

ENGINES: dict[str, Any] = {
    "object": "engines",
    "model": "digits-cnn",
    "version": 3,
    "choice": "jax",
    "reason": "jax takes 0.4 ms on batches of 1, 8, 32 (geometric mean); torch takes 0.9 ms.",
    "reference": "torch",
    "engines": [
        {
            "name": "jax",
            "precision": "float32",
            "latency_ms": {"1": 0.1, "8": 0.4, "32": 1.6},
            "samples_per_s": {"1": 10000.0, "8": 20000.0, "32": 20000.0},
            "difference": 3e-07,
            "agreement": None,
            "agrees": True,
        }
    ],
    "unusable": {
        "openvino": "The engine 'openvino' needs a package that this server lacks: pip install 'tandem[openvino]'."
    },
}


class Evidence(Answer):
    """What was measured of one engine, on this machine."""

    name: EngineName
    precision: ServingPrecision
    latency_ms: dict[str, float] = Field(description="Median time of a batch, by its size.")
    samples_per_s: dict[str, float] = Field(
        description="Throughput of one caller, by the size of its batches."
    )
    difference: float = Field(
        description="Largest difference of a logit from the reference, as a share of the largest logit."
    )
    agreement: float | None = Field(
        description="In a reduced precision, the share of the validation split that keeps its labels."
    )
    agrees: bool = Field(description="Whether that is small enough to be served.")

    @classmethod
    def of(cls, name: EngineName, found: EvidenceRecord) -> Self:
        return cls(
            name=name,
            latency_ms={str(rows): seconds * 1000 for rows, seconds in found.latency_s.items()},
            samples_per_s={str(rows): rows / seconds for rows, seconds in found.latency_s.items()},
            precision=found.precision,
            difference=found.difference,
            agreement=found.agreement,
            agrees=found.agrees,
        )


class Engines(Answer):
    """The engine that `auto` takes for a version, and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [ENGINES]})
    object: Literal["engines"] = "engines"
    model: str
    version: int
    choice: EngineName
    reason: str
    reference: EngineName = Field(description="The engine that the others are compared with, in float32.")
    engines: tuple[Evidence, ...]
    unusable: dict[EngineName, str] = Field(description="Engines that cannot run the model, and why.")

    @classmethod
    def of(cls, version: ModelVersion, found: Verdict) -> Self:
        return cls(
            model=version.name,
            version=version.version,
            choice=found.choice,
            reason=found.reason,
            reference=found.reference,
            engines=tuple(Evidence.of(name, one) for name, one in found.engines.items()),
            unusable=dict(found.unusable),
        )
