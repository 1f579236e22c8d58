"""Which engine serves a model: each is timed on the model's own input and compared with the reference, and the fastest
that agrees is taken."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from statistics import median
from time import perf_counter

import numpy as np

from models.engine import Predictor
from models.framework import EngineName
from models.serving import ServingPrecision

BATCHES = (1, 8, 32)
"""Rows of a batch that are timed."""
SECONDS = 0.25
"""How long each size is timed, at least once and at most `MOST` times."""
MOST = 200
TOLERANCE = 1e-3
"""The largest difference of a logit that is taken, as a share of the largest logit (or of 1, where that is smaller)."""


@dataclass(frozen=True)
class Evidence:
    """What was measured of one engine. latency_s: the median by batch size. difference: the largest of any logit, as a
    share of the largest. agreement: in a reduced precision, the share of labels that it keeps; it computes in that only
    because they are enough."""

    latency_s: Mapping[int, float]
    difference: float
    precision: ServingPrecision = "float32"
    agreement: float | None = None

    @property
    def agrees(self) -> bool:
        return self.precision != "float32" or self.difference <= TOLERANCE  # NaN does not

    @property
    def mean_s(self) -> float:
        """Geometric mean over the batch sizes."""
        return float(prod(self.latency_s.values()) ** (1 / len(self.latency_s)))


@dataclass(frozen=True)
class Verdict:
    """The engine that `auto` takes, and why. `reference`: the engine that the others are compared with, in float32.
    `unusable`: those that cannot run the model, and why."""

    choice: EngineName
    reason: str
    reference: EngineName
    engines: Mapping[EngineName, Evidence]
    unusable: Mapping[EngineName, str]


def measure(
    predictor: Predictor,
    x: np.ndarray,
    expected: np.ndarray,
    precision: ServingPrecision = "float32",
    agreement: float | None = None,
) -> Evidence:
    """Time this predictor on batches of x, and compare its logits with the expected ones."""
    found = predictor.logits(x)
    difference = np.abs(found.astype(np.float64) - expected).max() / max(1.0, float(np.abs(expected).max()))
    latency_s = {rows: _median_s(predictor, x[:rows]) for rows in BATCHES}
    return Evidence(latency_s, float(difference), precision, agreement)


def verdict(
    engines: Mapping[EngineName, Evidence],
    reference: EngineName,
    unusable: Mapping[EngineName, str] | None = None,
) -> Verdict:
    """The fastest that agrees with the reference, which agrees with itself."""
    agreeing = sorted(
        (name for name, one in engines.items() if one.agrees), key=lambda name: engines[name].mean_s
    )
    choice = agreeing[0] if agreeing else reference
    others = [name for name in engines if name != choice]
    return Verdict(choice, _reason(choice, others, engines), reference, engines, unusable or {})


def _reason(choice: EngineName, others: list[EngineName], engines: Mapping[EngineName, Evidence]) -> str:
    sizes = ", ".join(map(str, BATCHES))
    said = [f"{choice} takes {_ms(engines[choice])} on batches of {sizes} (geometric mean)"]
    for name in others:
        one = engines[name]
        said.append(
            f"{name} takes {_ms(one)}"
            if one.agrees
            else f"{name} is not used: its logits differ by {one.difference:.1g} of the largest"
        )
    return "; ".join(said) + "."


def _ms(evidence: Evidence) -> str:
    reduced = "" if evidence.precision == "float32" else f" in {evidence.precision}"
    return f"{evidence.mean_s * 1000:.3g} ms{reduced}"


def _median_s(predictor: Predictor, x: np.ndarray) -> float:
    predictor.logits(x)  # compiled, and in the caches
    found: list[float] = []
    began = perf_counter()
    while not found or (perf_counter() - began < SECONDS and len(found) < MOST):
        start = perf_counter()
        predictor.logits(x)
        found.append(perf_counter() - start)
    return median(found)
