"""What has been predicted since the server started, by version, as Triton's statistics extension has it.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from app.counts import Counts, Distribution, Predicted


@dataclass(slots=True)
class Duration:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.ns += round(seconds * 1e9)

    def add_all(self, of: Distribution) -> None:
        self.add(of.sum, of.count)


@dataclass(slots=True)
class VersionStatistics:
    """Of one version on all engines. `inferences` counts inputs, `executions` batches; the durations count requests.

    `queue` is the wait for a runner, `compute_input` reading the inputs, `compute_infer` the batch that a request was
    in, `compute_output` writing the answer. `batches` has the time of the executions by their size.
    """

    inferences: int = 0
    executions: int = 0
    last_inference_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Iterable[Counts], name: str, version: int) -> Self:
        """Of all processes together."""
        found = cls()
        for one in counts:
            for (model, number, _), predicted in one.predicted.items():
                if (model, number) == (name, version):
                    found._add(predicted)
        return found

    def _add(self, predicted: Predicted) -> None:
        self.inferences += predicted.inputs
        self.last_inference_ms = max(self.last_inference_ms, predicted.last_ms)
        self.success.add(predicted.total_s, predicted.output.count)
        self.fail.add(predicted.failure_s, predicted.failures)
        self.queue.add_all(predicted.queue)
        self.compute_input.add_all(predicted.input)
        self.compute_infer.add_all(predicted.infer)
        self.compute_output.add_all(predicted.output)
        for size, batches in predicted.batches.items():
            self.executions += batches.count
            self.batches.setdefault(size, Duration()).add(batches.seconds, batches.count)
