"""What has been predicted since the process started, by version: counts and times as Triton's statistics extension has
them. Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from dataclasses import dataclass, field
from time import time

from app.prediction.batching import Computed


@dataclass(slots=True)
class Duration:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.ns += round(seconds * 1e9)


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


class Statistics:
    """Used on the event loop only."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], VersionStatistics] = {}

    def of(self, name: str, version: int) -> VersionStatistics:
        """What is counted of this version; nothing yet, if nobody has asked it."""
        found = self._versions.get((name, version))
        if found is None:
            found = self._versions[name, version] = VersionStatistics()
        return found

    def succeeded(
        self, name: str, version: int, computed: Computed, input_s: float, output_s: float, total_s: float
    ) -> None:
        seen = self.of(name, version)
        seen.inferences += len(computed.logits)
        seen.last_inference_ms = round(time() * 1000)
        seen.success.add(total_s)
        seen.queue.add(computed.queue_s)
        seen.compute_input.add(input_s)
        seen.compute_infer.add(computed.compute_s)
        seen.compute_output.add(output_s)
        if computed.leads:
            seen.executions += 1
            seen.batches.setdefault(computed.batch_size, Duration()).add(computed.compute_s)

    def failed(self, name: str, version: int, total_s: float) -> None:
        self.of(name, version).fail.add(total_s)
