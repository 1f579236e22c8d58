"""From logits to the tensors of a response.

Shape suffixes: B batch, K classes.
"""

from collections.abc import Iterator

import numpy as np

from app.inference_protocol.tensors import LABEL, LOGITS, PROBABILITIES, VALUE, outputs_of
from app.inference_protocol.wire import BYTES, InferRequest, OutputTensor, RequestedOutput
from models.answers import check_finite, labels_of, values
from models.errors import InvalidInput, suggest
from models.metrics import softmax
from models.weights import ModelCard


def check(request: InferRequest, card: ModelCard) -> None:
    """Raise InvalidInput if an output is asked for that the model does not give."""
    known = {one.name: one for one in outputs_of(card.signature)}
    for one in request.outputs or ():
        if one.name not in known:
            hint = suggest(one.name[:80], known)
            raise InvalidInput(
                f"Output {one.name[:80]!r} is not one of this model's. {hint}", pointer=one.pointer
            )
        if one.classes and known[one.name].datatype == BYTES:
            raise InvalidInput(
                f"Output {one.name!r} has no values to sort; ask {LOGITS!r} or {PROBABILITIES!r} for a classification.",
                pointer=one.pointer,
            )


def written(
    request: InferRequest, card: ModelCard, logits_BK: np.ndarray
) -> Iterator[tuple[OutputTensor, bool]]:
    """The tensors that were asked for, each with whether it is to be binary. Raises InvalidInput where the model's
    answer is not finite."""
    check_finite(logits_BK)
    asked = request.outputs or [
        RequestedOutput(one.name, request.binary, 0, "") for one in outputs_of(card.signature)
    ]
    for one in asked:
        found = _output(one.name, card, logits_BK)
        yield _classified(found, one.classes, card) if one.classes else found, one.binary


def _output(name: str, card: ModelCard, logits_BK: np.ndarray) -> OutputTensor:
    match name:
        case "logits":
            return _numeric(LOGITS, logits_BK)
        case "probabilities":
            return _numeric(PROBABILITIES, softmax(logits_BK).astype(np.float32))
        case "value":
            return _numeric(VALUE, values(logits_BK, card).astype(np.float32)[:, None])
    labels = labels_of(card, logits_BK.shape[1])
    best = [labels[index].encode() for index in logits_BK.argmax(axis=1).tolist()]
    return OutputTensor(LABEL, BYTES, (len(best),), best)


def _numeric(name: str, array: np.ndarray) -> OutputTensor:
    return OutputTensor(name, "FP32", array.shape, array)


def _classified(output: OutputTensor, classes: int, card: ModelCard) -> OutputTensor:
    """`value:index:label` of the largest values of each row, as Triton's classification extension writes them. Source:
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md"""
    array = output.data
    assert isinstance(array, np.ndarray)
    labels = None if card.signature.is_regression else labels_of(card, array.shape[1])
    best = np.argsort(-array, axis=1, kind="stable")[:, :classes]
    found = [
        f"{row[index]:f}:{index}{'' if labels is None else f':{labels[index]}'}".encode()
        for row, indices in zip(array.tolist(), best.tolist(), strict=True)
        for index in indices
    ]
    return OutputTensor(output.name, BYTES, best.shape, found)
