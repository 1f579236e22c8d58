"""How a model is trained: the `training` part of a job, and its defaults."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.architecture import Spec
from models.errors import InvalidInput
from models.signature import ImageInput, Signature

LARGEST_BATCH = 65536

Augmentation = Literal["flip", "crop"]
Precision = Literal["float32", "bfloat16", "float64"]
LearningRate = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SGD(Strict):
    """Stochastic gradient descent as `torch.optim.SGD`: coupled weight decay, momentum without dampening."""

    name: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.1
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SGD":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Strict):
    """`torch.optim.Adam`: epsilon outside the root, coupled weight decay. Source: arXiv 1412.6980."""

    name: Literal["adam"] = "adam"
    learning_rate: LearningRate = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: Epsilon = 1e-8
    weight_decay: NotNegative = 0.0


class AdamW(Strict):
    """`torch.optim.AdamW`: decoupled weight decay. Source: arXiv 1711.05101."""

    name: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: Epsilon = 1e-8
    weight_decay: NotNegative = 1e-2


OptimizerSpec = Annotated[SGD | Adam | AdamW, Field(discriminator="name")]
WarmupSteps = Annotated[int, Field(ge=0, description="Steps of linear warm-up from 0 before the schedule.")]


class ConstantSchedule(Strict):
    name: Literal["constant"] = "constant"
    warmup_steps: WarmupSteps = 0


class CosineSchedule(Strict):
    """Half a cosine from the learning rate down to `final_fraction` of it. Source: arXiv 1608.03983."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: WarmupSteps = 0
    final_fraction: Fraction = 0.0


class StepSchedule(Strict):
    """The learning rate times `factor` after every `every_epochs` epochs."""

    name: Literal["step"] = "step"
    warmup_steps: WarmupSteps = 0
    every_epochs: int = Field(default=30, ge=1)
    factor: float = Field(default=0.1, gt=0, le=1)


class LinearSchedule(Strict):
    """A straight line from the learning rate down to `final_fraction` of it."""

    name: Literal["linear"] = "linear"
    warmup_steps: WarmupSteps = 0
    final_fraction: Fraction = 0.0


ScheduleSpec = Annotated[
    ConstantSchedule | CosineSchedule | StepSchedule | LinearSchedule, Field(discriminator="name")
]

EarlyStoppingMetric = Literal["validation_loss", "validation_accuracy", "validation_rmse", "validation_r2"]


class EarlyStopping(Strict):
    """Stop when the metric has not improved for `patience` evaluations; the best weights are kept."""

    metric: EarlyStoppingMetric = "validation_loss"
    patience: int = Field(default=3, ge=1)
    minimum_change: NotNegative = 0.0

    @property
    def larger_is_better(self) -> bool:
        return self.metric in ("validation_accuracy", "validation_r2")


class TrainingSpec(Strict):
    """Every field may be left out but one of `epochs` and `max_steps`; `resolve` fills in the rest."""

    epochs: int | None = Field(default=None, ge=1, le=100_000)
    max_steps: int | None = Field(default=None, ge=1, description="Stop after this many optimizer steps.")
    batch_size: int | None = Field(default=None, ge=1, le=LARGEST_BATCH)
    seed: int = Field(default=0, ge=0, lt=2**63)
    optimizer: OptimizerSpec | None = None
    schedule: ScheduleSpec | None = None
    gradient_clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    label_smoothing: Fraction = 0.0
    augment: tuple[Augmentation, ...] = ()
    precision: Precision = Field(
        default="float32", description="'float64' is slow and exact: for comparing the frameworks."
    )
    freeze: Literal["none", "backbone"] = Field(
        default="none",
        description="'backbone': only the last layers learn, those that depend on the classes; the rest stays as it"
        " was, BatchNorm's statistics included.",
    )
    backbone_learning_rate: LearningRate | None = Field(
        default=None,
        description="The learning rate of all but the last layers, e.g. a tenth of `learning_rate` when fine-tuning;"
        " it follows the same schedule. Default: the same.",
    )
    early_stopping: EarlyStopping | None = None
    evaluate_every: int = Field(default=1, ge=1, description="Evaluate on validation every so many epochs.")
    checkpoint_every_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_an_end(self) -> "TrainingSpec":
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give 'epochs' or 'max_steps'")
        return self

    @property
    def backbone_factor(self) -> float:
        """The backbone's learning rate as a multiple of the head's; both follow one schedule."""
        if self.backbone_learning_rate is None or self.optimizer is None:
            return 1.0
        return self.backbone_learning_rate / self.optimizer.learning_rate

    @model_validator(mode="after")
    def _frozen_weights_do_not_learn(self) -> "TrainingSpec":
        if self.freeze == "backbone" and self.backbone_learning_rate is not None:
            raise ValueError(
                "a frozen backbone has no learning rate: leave out 'backbone_learning_rate' or 'freeze'"
            )
        return self


def resolve(spec: Spec, training: TrainingSpec, signature: Signature, training_rows: int) -> TrainingSpec:
    """The same training with every default filled in for this architecture and dataset.

    Raises InvalidInput where an option does not fit the task.
    """
    _check(training, signature)
    defaults = spec.training_defaults(signature)
    defaults["batch_size"] = _fitting_batch(defaults["batch_size"], training_rows)
    given: dict[str, Any] = training.model_dump(exclude_none=True, mode="json")
    _shorten_warm_up(defaults["schedule"], {**defaults, **given}, training_rows)
    resolved = TrainingSpec.model_validate({**defaults, **given}, strict=False)
    smallest = spec.smallest_batch(signature)
    if resolved.batch_size is not None and resolved.batch_size < smallest:
        raise InvalidInput(
            f"batch_size is {resolved.batch_size}; {spec.name!r} needs at least {smallest} of these images.",
            pointer="/training/batch_size",
        )
    if resolved.batch_size is not None and resolved.batch_size > training_rows:
        raise InvalidInput(
            f"batch_size is {resolved.batch_size}, but the dataset has {training_rows} training rows;"
            f" use at most {training_rows}.",
            pointer="/training/batch_size",
        )
    return resolved


def _shorten_warm_up(schedule: dict[str, Any], fields: dict[str, Any], training_rows: int) -> None:
    """A tenth of the run at most: in a short run on few rows the usual warm-up would be all there is."""
    steps = fields.get("epochs", math.inf) * max(1, training_rows // fields["batch_size"])
    steps = min(steps, fields.get("max_steps", math.inf))
    if "warmup_steps" in schedule:
        schedule["warmup_steps"] = min(schedule["warmup_steps"], int(steps / 10))


def _fitting_batch(batch_size: int, training_rows: int) -> int:
    """At least eight steps an epoch, so that a small dataset still trains."""
    while batch_size > 8 and batch_size * 8 > training_rows:
        batch_size //= 2
    return max(1, min(batch_size, training_rows))


def _check(training: TrainingSpec, signature: Signature) -> None:
    if training.augment and not isinstance(signature.input, ImageInput):
        raise InvalidInput("augment is for images; leave it out for tables.", pointer="/training/augment")
    if training.label_smoothing and signature.is_regression:
        raise InvalidInput(
            "label_smoothing is for classification; leave it out for regression.",
            pointer="/training/label_smoothing",
        )
    stopping = training.early_stopping
    if stopping and stopping.metric not in monitored_metrics(signature):
        raise InvalidInput(
            f"{stopping.metric!r} is not measured for {signature.task}; use one of"
            f" {', '.join(monitored_metrics(signature))}.",
            pointer="/training/early_stopping/metric",
        )


def monitored_metrics(signature: Signature) -> tuple[EarlyStoppingMetric, ...]:
    if signature.is_regression:
        return ("validation_loss", "validation_rmse", "validation_r2")
    return ("validation_loss", "validation_accuracy")
