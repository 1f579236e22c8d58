"""What the API answers, as the Python client hands it out.

Fields that a newer server adds are kept as attributes, so an older client goes on working.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Progress(Reply):
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    total_steps: int | None = None


class JobDataset(Reply):
    name: str
    id: str | None = None
    sha256: str | None = None


class JobResult(Reply):
    """The registered version that a finished job made."""

    model: str
    version: int


class JobError(Reply):
    code: str
    message: str


class Run(Reply):
    """What jobs and predictions of datasets have in common."""

    id: str
    status: Status
    dataset: JobDataset
    phase: str | None = None
    metrics: dict[str, float | None] = {}
    timing: dict[str, float | None] = {}
    device: str | None = None
    worker: str | None = None
    attempt: int = 0
    resumed_from: str | None = None
    error: JobError | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    estimated_finish: datetime | None = None
    metadata: dict[str, Any] = {}

    @property
    def finished(self) -> bool:
        return self.status not in ("queued", "running")


class Job(Run):
    name: str
    framework: str
    spec: dict[str, Any]
    progress: Progress = Progress()
    result: JobResult | None = None
    stop_reason: str | None = None


class JobCount(Reply):
    jobs: int
    total_jobs: int


class ComparedRun(Reply):
    """One training of a comparison."""

    framework: str
    seed: int
    job: str | None = None
    status: Status | None = None
    model: str | None = None
    figures: dict[str, float | None] = {}
    beside: int = 0
    curve: dict[str, list[float | None]] | None = None


class Comparison(Reply):
    id: str
    name: str
    status: Status
    progress: JobCount
    spec: dict[str, Any]
    metric: str
    target: float | None = None
    frameworks: dict[str, dict[str, dict[str, float | None] | None]]
    runs: tuple[ComparedRun, ...]
    agreement: tuple[dict[str, Any], ...] | None = None
    serving: dict[str, Any] | None = None
    conclusion: tuple[str, ...] = ()
    error: JobError | None = None
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        return self.status not in ("queued", "running")


class RowProgress(Reply):
    rows: int | None = None
    total_rows: int


class Predictor(Reply):
    """The version that predicts."""

    name: str
    version: int


class PredictionResult(Reply):
    """The file that a finished prediction has made."""

    sha256: str
    size_bytes: int
    rows: int
    url: str


class DatasetPrediction(Run):
    """The prediction of a whole dataset."""

    model: Predictor
    engine: str
    split: str
    format: str
    progress: RowProgress
    result: PredictionResult | None = None


class JobEvent(Reply):
    """`id` counts from 1 within the job or prediction; `type` is status, progress, metric, log, checkpoint or done."""

    id: int
    type: str
    data: dict[str, Any]


class Splits(Reply):
    """Items in each split."""

    train: int
    validation: int
    test: int


class DataWarning(Reply):
    code: str
    detail: str


class Dataset(Reply):
    id: str
    name: str
    task: str
    splits: Splits
    input: dict[str, Any]
    classes: tuple[str, ...] | None = None
    class_counts: dict[str, tuple[int, ...]] | None = None
    warnings: tuple[DataWarning, ...] = ()
    sha256: str | None = None
    size_bytes: int | None = None
    created_at: datetime | None = None


class VersionServing(Reply):
    """`agreement`: for each engine that was tried in this precision, the share of the validation split that keeps its
    labels."""

    precision: str = "float32"
    agreement: dict[str, float] = {}


class ModelVersion(Reply):
    """`framework`, `job` and `dataset` are None where the weights were imported."""

    name: str
    version: int
    framework: str | None
    architecture: str
    task: str
    sha256: str
    size_bytes: int
    parameters: int
    created_at: datetime
    classes: tuple[str, ...] | None = None
    metrics: dict[str, float | None] = {}
    dataset: JobDataset | None = None
    job: str | None = None
    spec: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    serving: VersionServing = VersionServing()


class ModelLoading(Reply):
    """When a model is loaded, and its bounds; None where they are the server's."""

    load: str
    max_batch_rows: int | None = None
    max_waiting_predictions: int | None = None


class Model(Reply):
    """A name with its versions, newest first. `champion` is the one that the name alone means; one that is not
    `enabled` was unloaded and answers no predictions."""

    name: str
    champion: int
    aliases: dict[str, int]
    versions: tuple[ModelVersion, ...]
    created_at: datetime
    enabled: bool = True
    serving: ModelLoading


class Deleted(Reply):
    """What a deletion took of a model."""

    name: str
    versions: tuple[int, ...]
    aliases: tuple[str, ...]


class EngineEvidence(Reply):
    """What was measured of one engine on the server's machine: medians in ms and samples per second by the size of the
    batch; the largest difference of a logit from the reference, as a share of the largest; in a reduced precision the
    share of the validation split that keeps its labels."""

    name: str
    precision: str
    latency_ms: dict[int, float]
    samples_per_s: dict[int, float]
    difference: float
    agreement: float | None = None
    agrees: bool


class Engines(Reply):
    """The engine that `auto` takes for a version, and why; `unusable` are those that cannot run it, and why."""

    model: str
    version: int
    choice: str
    reason: str
    reference: str
    engines: tuple[EngineEvidence, ...]
    unusable: dict[str, str] = {}


class Export(NamedTuple):
    """An exported file, and how far its outputs are from the model's, as a share of the largest."""

    file: Path
    largest_difference: float


class ServedModel(Reply):
    """Which version answered, and the framework that trained it; None where it was imported."""

    name: str
    version: int
    framework: str | None


class Choice(Reply):
    label: str
    score: float


class Prediction(Reply):
    """One answer. Classification sets label, index, score and top; regression sets value."""

    label: str | None = None
    index: int | None = None
    score: float | None = None
    top: tuple[Choice, ...] = ()
    value: float | None = None
    probabilities: tuple[float, ...] | None = None
    logits: tuple[float, ...] | None = None


class PredictionTiming(Reply):
    queue_ms: float
    compute_ms: float
    batch_size: int


class Predictions(Reply):
    model: ServedModel
    engine: str
    predictions: tuple[Prediction, ...]
    timing: PredictionTiming


class Worker(Reply):
    """A worker that has given a sign of life lately. `slots`: jobs that it runs at a time."""

    id: str
    host: str
    pid: int
    framework: str
    device: str | None = None
    slots: int
    jobs: tuple[str, ...] = ()
    started_at: datetime
    last_seen_at: datetime
