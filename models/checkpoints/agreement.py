"""Whether a file that says all itself agrees with itself: anybody may have written it."""

from collections.abc import Mapping

import numpy as np

from models.architecture import Tensor
from models.checkpoints import tokenizers
from models.errors import InvalidInput
from models.preprocessing import TextPreprocessing
from models.signature import Task
from models.weights import ModelCard, Weights

TASKS: dict[str, tuple[Task, ...]] = {
    "image": ("image-classification",),
    "table": ("tabular-classification", "tabular-regression"),
    "tokens": ("text-classification",),
}
"""By the kind of input."""


def check_agreement(card: ModelCard) -> None:
    """Raise InvalidInput unless the preprocessing makes what the network takes, and the task is one of such inputs."""
    about, taken, task = card.preprocessing, card.signature.input, card.signature.task
    if about.input != taken:
        raise _contradiction(
            f"its preprocessing makes {about.input}, its network takes {taken}, and they differ in size, columns or"
            " tokens"
        )
    if task not in TASKS[about.input.kind]:
        raise _contradiction(f"{task} is not for {taken}")
    if isinstance(about, TextPreprocessing):
        tokenizers.check(about.tokenizer, about.vocabulary)
        if about.padding >= about.vocabulary:
            raise _contradiction("what fills short texts up is no token of its vocabulary")


def as_declared(weights: Weights, expected: Mapping[str, Tensor]) -> Weights:
    """The weights, floats of any width as the declared ones. Raises InvalidInput where one is something else."""
    return {name: _as_declared(name, array, expected.get(name)) for name, array in weights.items()}


def _as_declared(name: str, array: np.ndarray, tensor: Tensor | None) -> np.ndarray:
    if tensor is None or array.dtype == tensor.dtype:
        return array
    if not (np.issubdtype(array.dtype, np.floating) and np.issubdtype(tensor.dtype, np.floating)):
        raise InvalidInput(
            f"{name!r} holds {array.dtype}; the network needs {np.dtype(tensor.dtype)}.",
            code="dtype_mismatch",
        )
    with np.errstate(over="ignore"):  # what is too large for it becomes infinite, which is refused
        return array.astype(tensor.dtype)


def _contradiction(what: str) -> InvalidInput:
    return InvalidInput(f"The file contradicts itself: {what}.", code="contradiction")
