"""The tensors that a model takes and gives: what metadata and configuration list."""

from dataclasses import dataclass

from app.inference_protocol.wire import BYTES
from models.columns import BooleanColumn, CategoricalColumn, Column
from models.signature import ImageInput, Signature, TableInput

IMAGE, INPUT, TEXT, IDS, MASK = "image", "input", "text", "input_ids", "attention_mask"
LOGITS, PROBABILITIES, LABEL, VALUE = "logits", "probabilities", "label", "value"


@dataclass(frozen=True)
class Tensor:
    """A tensor by its name; -1 in `shape` is any number. What is `optional` may be left out, for others say the
    same."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


def inputs_of(signature: Signature) -> tuple[Tensor, ...]:
    """What a request may give, the usual way first."""
    match signature.input:
        case ImageInput(height=height, width=width, channels=channels):
            return (
                Tensor(IMAGE, "UINT8", (-1, height, width, channels)),
                Tensor(INPUT, "FP32", (-1, channels, height, width), optional=True),
            )
        case TableInput(features=features, fields=fields):
            columns = tuple(_of_column(field) for field in fields or ())
            if any(column.name == INPUT for column in columns):  # the column goes first
                return columns
            return (Tensor(INPUT, "FP32", (-1, features), optional=bool(columns)), *columns)
        case _:
            return (
                Tensor(TEXT, BYTES, (-1,)),
                Tensor(IDS, "INT64", (-1, -1), optional=True),
                Tensor(MASK, "INT64", (-1, -1), optional=True),
            )


def outputs_of(signature: Signature) -> tuple[Tensor, ...]:
    if signature.is_regression:
        return (Tensor(VALUE, "FP32", (-1, 1)),)
    classes = (-1, signature.outputs)
    return (
        Tensor(LOGITS, "FP32", classes),
        Tensor(PROBABILITIES, "FP32", classes),
        Tensor(LABEL, BYTES, (-1,)),
    )


def _of_column(field: Column) -> Tensor:
    match field:
        case CategoricalColumn():
            datatype = BYTES
        case BooleanColumn():
            datatype = "BOOL"
        case _:
            datatype = "FP32"
    return Tensor(field.name, datatype, (-1,), optional=field.missing != "refused")
