"""What `GET /metrics` says, in Prometheus' terms."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

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
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
        self._predictions = Counter(
            "tandem_predictions", "Inputs predicted.", ("model", "engine"), registry=self.registry
        )
        self._prediction_s = Histogram(
            "tandem_prediction_seconds",
            "Time of a prediction's parts: reading its inputs, waiting in the queue, and computing.",
            ("part",),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "tandem_prediction_batch_size",
            "Inputs computed at once, of this request and others; counted for each request.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        # Anyone can invent a method; a series for each would fill the memory.
        method = method if method in KNOWN_METHODS else "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(method, route).observe(seconds)

    def observe_prediction(self, model: str, engine: str, computed: Computed, read_s: float) -> None:
        self._predictions.labels(model, engine).inc(len(computed.logits))
        self._prediction_s.labels("read").observe(read_s)
        self._prediction_s.labels("queue").observe(computed.queue_s)
        self._prediction_s.labels("compute").observe(computed.compute_s)
        self._batch_size.observe(computed.batch_size)

    def watch_jobs(self, counts: JobCounts) -> None:
        """Report jobs by framework and status, counted anew at every scrape."""
        self.registry.register(_Jobs(counts))

    def watch_model_cache(self, state: Callable[[], Mapping[str, float]]) -> None:
        """Report the model cache: each of these numbers under its name."""
        self.registry.register(_ModelCache(state))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self, counts: JobCounts) -> None:
        self._counts = counts

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
        return GaugeMetricFamily("tandem_jobs", "Jobs by status.", labels=("framework", "status"))


class _ModelCache(Collector):
    def __init__(self, state: Callable[[], Mapping[str, float]]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        for name, number in self._state().items():
            yield GaugeMetricFamily(f"tandem_model_cache_{name}", f"The model cache's {name}.", value=number)
