"""Predictions: what is asked and what is answered."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.paging import Answer
from models.answers import LARGEST_TOP_K, Wanted
from models.framework import EngineName, Framework

Engine = Literal["auto", "torch", "jax", "openvino"]
THREE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAASElEQVR4nDXGQQ2AMBAAsJLszyScBCTMAg5wAE4WFCBhVnAwHCw44EVfJerodZFE"
    "OefjvWHrYwGtBxCj+VckueQ9h0lc8rP6AK7JEI+MXzCsAAAAAElFTkSuQmCC"
)
"""A three of the dataset `digits`, as PNG."""
PIXELS = [
    [0, 32, 143, 239, 223, 143, 48, 0],
    [0, 64, 207, 128, 143, 255, 128, 0],
    [0, 0, 0, 96, 223, 239, 48, 0],
    [0, 0, 0, 175, 223, 32, 0, 0],
    [0, 0, 0, 32, 239, 175, 0, 0],
    [0, 0, 0, 0, 32, 239, 64, 0],
    [0, 16, 80, 96, 207, 255, 96, 0],
    [0, 32, 191, 191, 207, 175, 0, 0],
]
PATIENT = {
    "age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4, "s5": 4.8598, "s6": 87,
}  # fmt: skip
EXAMPLES: dict[str, dict[str, Any]] = {
    "image": {"model": "digits-cnn", "inputs": [{"image": THREE}], "top_k": 3},
    "pixels": {
        "model": "digits-cnn@1",
        "inputs": [PIXELS],
        "engine": "jax",
        "return": ["labels", "probabilities"],
    },
    "row": {"model": "diabetes-mlp", "inputs": [[*PATIENT.values()]]},
    "row_by_name": {"model": "diabetes-mlp", "inputs": [PATIENT]},
}
"""To models that jobs on built-in datasets make under their default names."""


class Asked(BaseModel):
    """What is asked about the inputs, whatever form they come in."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)
    model: str = Field(
        pattern=r"^[A-Za-z0-9._@-]{1,160}$",
        description="`name`, `name@3`, `name@alias` or a job's id.",
        examples=["digits-cnn"],
    )
    engine: Engine = Field(
        default="auto",
        description="What computes: either framework, whichever trained the model, or its graph in OpenVINO. `auto`"
        " takes the one that was measured to be the fastest; until that is known, one that has the model loaded.",
        examples=["auto"],
    )
    top_k: int = Field(
        default=1,
        ge=1,
        le=LARGEST_TOP_K,
        description="Labels to list for each input, likeliest first.",
        examples=[3],
    )
    wanted: list[Wanted] = Field(
        default=["labels"], alias="return", min_length=1, max_length=8, examples=[["labels"]]
    )


class PredictBody(Asked):
    """The body of `POST /predict` as JSON."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [EXAMPLES["image"], EXAMPLES["row"]]},
    )
    inputs: Annotated[
        list[Any],
        Field(
            min_length=1,
            description='Each an image (`{"image": "<base64>"}`), raw pixels from 0 to 255 as [height][width] or'
            " [height][width][channels], or a row (a list of numbers, or an object by column name).",
        ),
    ]


class ServedModel(Answer):
    """Which version answered, and which framework trained it; none where it was imported."""

    name: str
    version: int
    framework: Framework | None


class Choice(Answer):
    """A label and its probability."""

    label: str
    score: float


class Prediction(Answer):
    """The answer for one input. Classification has label, index, score and top; regression has value. What was not
    asked for is left out."""

    label: str | None = None
    index: int | None = None
    score: float | None = Field(default=None, description="The label's probability.")
    top: tuple[Choice, ...] | None = None
    value: float | None = Field(default=None, description="In the units of the dataset.")
    probabilities: tuple[float, ...] | None = Field(default=None, description="In the order of the classes.")
    logits: tuple[float, ...] | None = Field(default=None, description="What the network gave, unchanged.")


class Timing(Answer):
    """Where the time went."""

    queue_ms: float
    compute_ms: float
    batch_size: int


class Predictions(Answer):
    """The answers, in the order of the inputs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": {"name": "digits-cnn", "version": 3, "framework": "torch"},
                    "engine": "jax",
                    "predictions": [
                        {
                            "label": "7",
                            "index": 7,
                            "score": 0.98,
                            "top": [{"label": "7", "score": 0.98}, {"label": "9", "score": 0.01}],
                        }
                    ],
                    "timing": {"queue_ms": 0.04, "compute_ms": 1.7, "batch_size": 1},
                }
            ]
        }
    )
    model: ServedModel
    engine: EngineName
    predictions: tuple[Prediction, ...]
    timing: Timing
