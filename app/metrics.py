"""What `GET /metrics` says, in Prometheus' terms."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.prediction.batching import Computed
from models.errors import Unavailable
from models.framework import Framework
from workers.job_records import Status

JobCounts = Callable[[], Mapping[tuple[Framework, Status], int]]

REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PART_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, *REQUEST_BUCKETS_S)
PARTS = ("input", "queue", "infer", "output")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _OfEngine(NamedTuple):
    predictions: Counter
    batch_size: Histogram
    input_s: Histogram
    queue_s: Histogram
    infer_s: Histogram
    output_s: Histogram


class Metrics:
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tandem_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_s = Histogram(
            "tandem_http_request_seconds",
            "Time from request to the end of the answer.",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        by_engine = ("model", "engine")
        self._predictions = Counter(
            "tandem_predictions", "Inputs predicted.", by_engine, registry=self.registry
        )
        self._failures = Counter(
            "tandem_prediction_failures",
            "Requests to a known model that were not answered with a prediction.",
            by_engine,
            registry=self.registry,
        )
        self._prediction_s = Histogram(
            "tandem_prediction_seconds",
            "Time of a request's parts: reading its inputs (input), waiting for a runner (queue), the batch that it is"
            " in (infer), writing the answer (output).",
            (*by_engine, "part"),
            buckets=PART_BUCKETS_S,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "tandem_prediction_batch_size",
            "Inputs computed at once, counted for each batch.",
            by_engine,
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._of_route: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._of_engine: dict[tuple[str, str], _OfEngine] = {}

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        # Anyone can invent a method; a series for each would fill the memory.
        method = method if method in KNOWN_METHODS else "OTHER"
        key = method, route, status
        found = self._of_route.get(key)
        if found is None:
            counter = self._requests.labels(method, route, str(status))
            found = self._of_route[key] = counter, self._request_s.labels(method, route)
        counter, histogram = found
        counter.inc()
        histogram.observe(seconds)

    def observe_prediction(
        self, model: str, engine: str, computed: Computed, input_s: float, output_s: float
    ) -> None:
        of = self._of_engine.get((model, engine)) or self._about(model, engine)
        of.predictions.inc(len(computed.logits))
        of.input_s.observe(input_s)
        of.queue_s.observe(computed.queue_s)
        of.infer_s.observe(computed.compute_s)
        of.output_s.observe(output_s)
        if computed.leads:
            of.batch_size.observe(computed.batch_size)

    def observe_failure(self, model: str, engine: str) -> None:
        self._failures.labels(model, engine).inc()

    def _about(self, model: str, engine: str) -> "_OfEngine":
        """The series of one model on one engine: finding them by their labels takes longer than counting."""
        parts = (self._prediction_s.labels(model, engine, part) for part in PARTS)
        found = _OfEngine(
            self._predictions.labels(model, engine), self._batch_size.labels(model, engine), *parts
        )
        self._of_engine[model, engine] = found
        return found

    def watch_jobs(self, counts: JobCounts) -> None:
        """Report jobs by framework and status, counted anew at every scrape."""
        self.registry.register(_Jobs(counts))

    def watch_dataset_predictions(self, counts: JobCounts) -> None:
        """Report predictions of datasets likewise."""
        name, about = "tandem_dataset_predictions", "Predictions of whole datasets by status."
        self.registry.register(_Jobs(counts, name, about))

    def watch_model_cache(self, state: Callable[[], Mapping[str, float]]) -> None:
        """Report the model cache: each of these numbers under its name."""
        self.registry.register(_ModelCache(state))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self, counts: JobCounts, name: str = "tandem_jobs", about: str = "Jobs by status.") -> None:
        self._counts, self._name, self._about = counts, name, about

    def describe(self) -> Iterator[Metric]:
        yield self._empty()

    def collect(self) -> Iterator[Metric]:
        family = self._empty()
        # Without its database the process still has the rest to tell.
        with suppress(Unavailable):
            for (framework, status), number in self._counts().items():
                family.add_metric((framework, status), number)
        yield family

    def _empty(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._about, labels=("framework", "status"))


class _ModelCache(Collector):
    def __init__(self, state: Callable[[], Mapping[str, float]]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        for name, number in self._state().items():
            yield GaugeMetricFamily(f"tandem_model_cache_{name}", f"The model cache's {name}.", value=number)
