"""What an exported file says about itself, and how its input and output are called."""

from importlib.metadata import version
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from models.preprocessing import TablePreprocessing
from models.signature import ImageInput, Input, TableInput
from models.weights import ModelCard

Axis = int | Literal["batch", "tokens"]


class Port(BaseModel):
    """An input or output: the axes that have a name are as long as the caller likes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    dtype: Literal["uint8", "float32", "int32", "int64"]
    shape: tuple[Axis, ...]


class ExportCard(BaseModel):
    """The card inside an exported file. `tandem` is the version that wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tandem: str
    format: str
    input: Port
    output: Port
    model: ModelCard


class Target(NamedTuple):
    """A regression's output in the target's units is `logits * std + mean`."""

    mean: float
    std: float


def card_of(model: ModelCard, format: str, ids: Literal["int32", "int64"]) -> ExportCard:
    """The card of a model in a format whose token ids have this dtype."""
    return ExportCard(
        tandem=version("tandem"),
        format=format,
        input=_input(model.signature.input, ids),
        output=Port(
            name="value" if model.signature.is_regression else "logits",
            dtype="float32",
            shape=("batch", model.signature.outputs),
        ),
        model=model,
    )


def target_of(model: ModelCard) -> Target | None:
    """How a regression's target was standardised; None for classification."""
    about = model.preprocessing
    if not isinstance(about, TablePreprocessing) or about.target_mean is None or about.target_std is None:
        return None
    return Target(about.target_mean, about.target_std)


def _input(input: Input, ids: Literal["int32", "int64"]) -> Port:
    match input:
        case ImageInput():
            return Port(name="image", dtype="uint8", shape=("batch", *input.shape))
        case TableInput():
            return Port(name="input", dtype="float32", shape=("batch", *input.shape))
        case _:
            return Port(name="input_ids", dtype=ids, shape=("batch", "tokens"))
