"""What supervisor and trainer say to each other: one JSON object a line.

Down the trainer's standard input: one Assignment or ScoringAssignment, then perhaps a Stop. Up a pipe of its own: every
other message here. Standard output and error are the job's log.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.engine import Device
from models.job import JobSpec
from models.scoring.spec import ScoringSpec
from models.signature import Signature


class Message(BaseModel):
    # Losses may be NaN or infinite; plain JSON numbers cannot say so.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def line(self) -> bytes:
        """The message as it goes over the pipe, newline included."""
        return self.model_dump_json().encode() + b"\n"


class BuiltinDataset(Message):
    """A dataset that Tandem knows how to get: the trainer prepares it and reports the file, to be kept."""

    kind: Literal["builtin"] = "builtin"
    name: str
    folder: str
    """Holds the publisher's files, or receives them."""


class StoredDataset(Message):
    """A dataset file in the artifact store, its hash checked."""

    kind: Literal["stored"] = "stored"
    path: str


class _Attempt(Message):
    """One attempt at one job."""

    job_id: str
    fence: int
    dataset: Annotated[BuiltinDataset | StoredDataset, Field(discriminator="kind")]
    device: Device
    work_folder: str
    """Scratch space of this attempt; deleted after it."""


class Assignment(_Attempt):
    """An attempt at training."""

    kind: Literal["assignment"] = "assignment"
    spec: JobSpec
    """Fully resolved."""
    checkpoint_folder: str
    """Where this attempt's checkpoints go, one folder a step."""
    checkpoint_every_s: float
    checkpoints: tuple[str, ...] = ()
    """Folders of this run to resume from, the newest first; the first undamaged one is taken."""
    continued_checkpoints: tuple[str, ...] = ()
    """When there is none: those of the run that this one continues, likewise."""
    initial_weights: str | None = None
    """A weights file to start from when there is no checkpoint."""
    pretrained_cache: str
    """Where published checkpoints are kept once they were fetched."""
    pretrained_folder: str | None = None
    """Holds the publishers' files, and nothing is downloaded."""

    @property
    def memory_advice(self) -> str:
        """What to do where the machine had too little memory."""
        half = max(1, (self.spec.training.batch_size or 1) // 2)
        return f"A batch_size of {half} would need less memory."


class ScoringAssignment(_Attempt):
    """An attempt at the prediction of a dataset."""

    kind: Literal["scoring"] = "scoring"
    spec: ScoringSpec
    weights: str
    """The model's file, its hash checked."""
    part_folder: str
    """Where this attempt's parts go."""
    part_every_s: float
    earlier_parts: tuple[str, ...] = ()
    """Folders of other attempts at the same, to go on from."""

    @property
    def memory_advice(self) -> str:
        """What to do where the machine had too little memory."""
        return "Ask for a smaller model, or run a worker on a larger machine."


Work = Assignment | ScoringAssignment
"""What a trainer may be given."""


class Stop(Message):
    """Checkpoint and end; the trainer answers Stopped."""

    kind: Literal["stop"] = "stop"
    reason: Literal["shutdown", "cancel"]


class Ready(Message):
    """A trainer has imported its framework, touched the device and waits for an assignment."""

    kind: Literal["ready"] = "ready"


class Taken(Message):
    """A trainer has its assignment and begins with it: what takes long from now on it says first."""

    kind: Literal["taken"] = "taken"


class Phase(Message):
    """What the trainer is doing now, for people."""

    kind: Literal["phase"] = "phase"
    text: str


class DatasetPrepared(Message):
    """A built-in dataset was written to this file of the work folder."""

    kind: Literal["dataset_prepared"] = "dataset_prepared"
    path: str


class Started(Message):
    """The work begins, at `step` when it resumes. Of a prediction steps are rows, and there are no epochs."""

    kind: Literal["started"] = "started"
    device: str
    step: int
    total_steps: int
    epochs: int | None = None
    setup_s: float


class FirstStep(Message):
    """The attempt's first step is done."""

    kind: Literal["first_step"] = "first_step"
    compile_s: float | None = None


class Progressed(Message):
    """`step` steps are done; `epoch` counts from 1 and is the one in progress."""

    kind: Literal["progress"] = "progress"
    epoch: int
    step: int
    samples_per_s: float | None


class RowsScored(Message):
    """So many rows of the dataset are scored."""

    kind: Literal["rows"] = "rows"
    rows: int
    samples_per_s: float | None


class Measured(Message):
    """A point of the metrics: means since the last such point, or of the whole epoch.

    `values` by name, e.g. {"train_loss": 0.3, "validation_accuracy": 0.9}.
    """

    kind: Literal["metric"] = "metric"
    span: Literal["train", "epoch"]
    step: int
    epoch: int
    values: dict[str, float]


class CheckpointWritten(Message):
    kind: Literal["checkpoint"] = "checkpoint"
    folder: str
    step: int
    epoch: int
    size_bytes: int


class Result(Message):
    """The end: a weights file in the work folder."""

    kind: Literal["result"] = "result"
    weights: str
    step: int
    signature: Signature
    """Of the model; for texts it takes tokens, where the dataset holds texts."""
    parameters: int
    metrics: dict[str, float]
    timing: dict[str, float]
    peak_memory_bytes: int | None = None
    stop_reason: str | None = None


class Scored(Message):
    """The end of a prediction: its result, a file in the work folder."""

    kind: Literal["scored"] = "scored"
    file: str
    metrics: dict[str, float]
    timing: dict[str, float]


class Stopped(Message):
    """The trainer obeyed a Stop, at this step; its newest checkpoint holds it."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Failed(Message):
    """The job cannot go on. `retryable`: another attempt may fare better."""

    kind: Literal["failed"] = "failed"
    code: str
    message: str
    retryable: bool = False


Report = (
    Ready
    | Taken
    | Phase
    | DatasetPrepared
    | Started
    | FirstStep
    | Progressed
    | RowsScored
    | Measured
    | CheckpointWritten
    | Result
    | Scored
    | Stopped
    | Failed
)
"""What a trainer says."""

Command = Work | Stop
"""What a trainer is told."""

_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])
_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])


def read_report(line: bytes) -> Report:
    """Raises ValueError if the line is not a report."""
    return _REPORT.validate_json(line)


def read_command(line: bytes) -> Command:
    """Raises ValueError if the line is not a command."""
    return _COMMAND.validate_json(line)
