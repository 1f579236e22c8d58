"""What a process counts: requests, and predictions by version and engine.

Counting each request costs next to nothing: what is measured of it is kept as it is, and sorted in with many others.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, Self

import numpy as np

from app.prediction.batching import Computed

REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PART_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, *REQUEST_BUCKETS_S)
MOST_RECENT = 1024
"""So many requests are kept before they are sorted in."""
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


Numbers = Sequence[float] | np.ndarray


class Distribution:
    """How many values fell up to each of `bounds`, and their sum; the last count is of those beyond."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, values: Numbers, times: Sequence[int] | None = None) -> None:
        """Each of the values, or so many times."""
        places = np.searchsorted(self.bounds, values)
        found = np.bincount(places, times, len(self.counts))
        self.counts = [before + int(more) for before, more in zip(self.counts, found.tolist(), strict=True)]
        self.sum += float(np.dot(values, np.ones(len(values)) if times is None else times))

    @property
    def count(self) -> int:
        return sum(self.counts)

    def plain(self) -> list[Any]:
        return [list(self.counts), self.sum]

    @classmethod
    def of(cls, bounds: Sequence[float], plain: list[Any]) -> Self:
        found = cls(bounds)
        found.counts, found.sum = plain
        return found


def _part() -> Distribution:
    return Distribution(PART_BUCKETS_S)


@dataclass(slots=True)
class Batches:
    """Of one size: how many, and the seconds that they took in all."""

    count: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Predicted:
    """By one version on one engine. `inputs` counts samples; all else but `batches`, by their size, counts requests.

    `input` is reading the inputs, `queue` the wait for a runner, `infer` the batch that a request was in, `output`
    writing the answer; `total_s` all of it, and what lies between. `last_ms` is since 1970.
    """

    inputs: int = 0
    failures: int = 0
    failure_s: float = 0.0
    total_s: float = 0.0
    last_ms: int = 0
    input: Distribution = field(default_factory=_part)
    queue: Distribution = field(default_factory=_part)
    infer: Distribution = field(default_factory=_part)
    output: Distribution = field(default_factory=_part)
    batches: dict[int, Batches] = field(default_factory=dict)
    _recent: "array[float]" = field(default_factory=lambda: array("d"))
    """`PARTS` of one request after the other."""

    def succeeded(self, computed: Computed, input_s: float, output_s: float, total_s: float) -> None:
        self.inputs += len(computed.logits)
        self.total_s += total_s
        self._recent.extend((input_s, computed.queue_s, computed.compute_s, output_s))
        if len(self._recent) >= MOST_RECENT * len(PARTS):
            self.settle()
        if computed.leads:
            self.last_ms = round(time() * 1000)
            batches = self.batches.get(computed.batch_size)
            if batches is None:
                batches = self.batches[computed.batch_size] = Batches()
            batches.count += 1
            batches.seconds += computed.compute_s

    def failed(self, seconds: float) -> None:
        self.failures += 1
        self.failure_s += seconds

    def settle(self) -> None:
        """Sort in what is recent."""
        if self._recent:
            for part, values in zip(PARTS, np.array(self._recent).reshape(-1, len(PARTS)).T, strict=True):
                getattr(self, part).observe(values)
            del self._recent[:]


SCALARS = ("inputs", "failures", "failure_s", "total_s", "last_ms")
PARTS = ("input", "queue", "infer", "output")
"""Of a request: attributes of `Predicted`."""


class Counts:
    """Of one process. Changed on its event loop only."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}
        """By method, route and status."""
        self.request_s: dict[tuple[str, str], Distribution] = {}
        """By method and route."""
        self.predicted: dict[tuple[str, int, str], Predicted] = {}
        """By model, version and engine."""
        self._recent: dict[tuple[str, str], array[float]] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        # Anyone can invent a method; a series for each would fill the memory.
        method = method if method in KNOWN_METHODS else "OTHER"
        key = method, route, status
        self.requests[key] = self.requests.get(key, 0) + 1
        recent = self._recent.get(key[:2])
        if recent is None:
            recent = self._recent[method, route] = array("d")
        recent.append(seconds)
        if len(recent) >= MOST_RECENT:
            self.settle()

    def settle(self) -> None:
        """Sort in what is recent."""
        for kind, seconds in self._recent.items():
            if seconds:
                self.request_s.setdefault(kind, Distribution(REQUEST_BUCKETS_S)).observe(seconds)
                del seconds[:]
        for predicted in self.predicted.values():
            predicted.settle()

    def about(self, model: str, version: int, engine: str) -> Predicted:
        """What is counted of a version on an engine from now on."""
        found = self.predicted.get((model, version, engine))
        if found is None:
            found = self.predicted[model, version, engine] = Predicted()
        return found

    def plain(self) -> list[Any]:
        """As JSON can hold it, for `of` in another process."""
        self.settle()
        return [
            [[*key, count] for key, count in self.requests.items()],
            [[*key, times.plain()] for key, times in self.request_s.items()],
            [[*key, _plain(found)] for key, found in self.predicted.items()],
        ]

    def copy(self) -> Self:
        """What is counted by now, for other threads too."""
        return self.of(self.plain())

    @classmethod
    def of(cls, plain: list[Any]) -> Self:
        counts = cls()
        requests, request_s, predicted = plain
        for *key, count in requests:
            counts.requests[tuple(key)] = count
        for *key, times in request_s:
            counts.request_s[tuple(key)] = Distribution.of(REQUEST_BUCKETS_S, times)
        for *key, found in predicted:
            counts.predicted[tuple(key)] = _predicted(*found)
        return counts


def _plain(found: Predicted) -> list[Any]:
    return [
        [getattr(found, name) for name in SCALARS],
        [getattr(found, part).plain() for part in PARTS],
        [[size, one.count, one.seconds] for size, one in found.batches.items()],
    ]


def _predicted(scalars: list[Any], parts: list[Any], batches: Iterable[list[Any]]) -> Predicted:
    about: dict[str, Any] = dict(zip(SCALARS, scalars, strict=True))
    for name, part in zip(PARTS, parts, strict=True):
        about[name] = Distribution.of(PART_BUCKETS_S, part)
    return Predicted(**about, batches={size: Batches(count, seconds) for size, count, seconds in batches})
