"""What `GET /metrics` says, in Prometheus' terms: each series by the process of this server that counted it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.counts import PARTS, Counts, Distribution, Predicted
from app.siblings import State
from models.errors import Unavailable
from models.framework import Framework
from workers import job_queries, models_in_memory
from workers.database import Database
from workers.job_records import Kind, Status

States = Mapping[int, State]

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BY_ENGINE = ("process", "model", "engine")
OF_KIND: Mapping[Kind, tuple[str, str]] = {
    "training": ("tandem_jobs", "Jobs by status."),
    "prediction": ("tandem_dataset_predictions", "Predictions of whole datasets by status."),
}


def text(states: States, database: Database) -> bytes:
    """The metrics of these processes, by their number, and what the database has to do."""
    collected = CollectorRegistry(auto_describe=False)
    collected.register(_Collected(states, database))
    return generate_latest(collected)


class _Collected(Collector):
    def __init__(self, states: States, database: Database) -> None:
        self._states, self._database = states, database

    def collect(self) -> Iterator[Metric]:
        counts = {str(process): state.counts for process, state in sorted(self._states.items())}
        yield from _requests(counts)
        predicted = {key: found for process, one in counts.items() for key, found in _by_engine(process, one)}
        yield from _predictions(predicted)
        yield from _model_caches(self._states)
        # Without its database the server still has the rest to tell.
        with suppress(Unavailable):
            yield _held(self._states, self._database)
            for kind, (name, about) in OF_KIND.items():
                yield _by_status(name, about, job_queries.counts(self._database, kind))


def _requests(counts: Mapping[str, Counts]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "tandem_http_requests", "Requests answered.", labels=("process", "method", "route", "status")
    )
    seconds = HistogramMetricFamily(
        "tandem_http_request_seconds",
        "Time from request to the end of the answer.",
        labels=("process", "method", "route"),
    )
    for process, one in counts.items():
        for (method, route, status), count in one.requests.items():
            answered.add_metric((process, method, route, str(status)), count)
        for (method, route), times in one.request_s.items():
            _add(seconds, (process, method, route), (times,))
    yield answered
    yield seconds


def _by_engine(process: str, counts: Counts) -> Iterator[tuple[tuple[str, ...], list[Predicted]]]:
    """All versions of a model together, by process, model and engine."""
    found: dict[tuple[str, ...], list[Predicted]] = {}
    for (model, _, engine), one in counts.predicted.items():
        found.setdefault((process, model, engine), []).append(one)
    yield from found.items()


def _predictions(predicted: Mapping[tuple[str, ...], list[Predicted]]) -> Iterator[Metric]:
    inputs = CounterMetricFamily("tandem_predictions", "Inputs predicted.", labels=BY_ENGINE)
    failures = CounterMetricFamily(
        "tandem_prediction_failures",
        "Requests to a known model that were not answered with a prediction.",
        labels=BY_ENGINE,
    )
    seconds = HistogramMetricFamily(
        "tandem_prediction_seconds",
        "Time of a request's parts: reading its inputs (input), waiting for a runner (queue), the batch that it is"
        " in (infer), writing the answer (output).",
        labels=(*BY_ENGINE, "part"),
    )
    sizes = HistogramMetricFamily(
        "tandem_prediction_batch_size", "Inputs computed at once, counted for each batch.", labels=BY_ENGINE
    )
    for key, versions in predicted.items():
        inputs.add_metric(key, sum(one.inputs for one in versions))
        failures.add_metric(key, sum(one.failures for one in versions))
        for part in PARTS:
            _add(seconds, (*key, part), [getattr(one, part) for one in versions])
        _add(sizes, key, [_batch_sizes(one) for one in versions])
    yield from (inputs, failures, seconds, sizes)


def _batch_sizes(found: Predicted) -> Distribution:
    sizes = Distribution(BATCH_BUCKETS)
    if found.batches:
        sizes.observe([*found.batches], [batches.count for batches in found.batches.values()])
    return sizes


def _add(family: HistogramMetricFamily, labels: Iterable[str], parts: Iterable[Distribution]) -> None:
    """One histogram of several with the same bounds."""
    parts = list(parts)
    totals = accumulate(map(sum, zip(*(part.counts for part in parts), strict=True)))
    bounds = [*map(repr, map(float, parts[0].bounds)), "+Inf"]
    family.add_metric(tuple(labels), list(zip(bounds, totals, strict=True)), sum(part.sum for part in parts))


def _model_caches(states: States) -> Iterator[Metric]:
    names = {name for state in states.values() for name in state.model_cache}
    for name in sorted(names):
        family = GaugeMetricFamily(
            f"tandem_model_cache_{name}", f"The model cache's {name}.", labels=("process",)
        )
        for process, state in sorted(states.items()):
            family.add_metric((str(process),), state.model_cache[name])
        yield family


def _held(states: States, database: Database) -> Metric:
    """A series for each version that has the weights; what was deleted meanwhile has none."""
    family = GaugeMetricFamily(
        "tandem_model_memory_bytes",
        "Weights in memory.",
        labels=("process", "model", "version", "engine", "precision"),
    )
    versions: dict[str, list[tuple[str, str]]] = {}
    hashes = {one.sha256 for state in states.values() for one in state.held}
    for name, version, sha256 in models_in_memory.named(database, hashes):
        versions.setdefault(sha256, []).append((name, str(version)))
    for process, state in sorted(states.items()):
        for one in state.held:
            for named in versions.get(one.sha256, ()):
                family.add_metric((str(process), *named, one.engine, one.precision), one.size_bytes)
    return family


def _by_status(name: str, about: str, counts: Mapping[tuple[Framework, Status], int]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=("framework", "status"))
    for labels, number in counts.items():
        family.add_metric(labels, number)
    return family
