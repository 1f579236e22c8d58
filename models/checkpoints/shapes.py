"""What a network takes and gives, read off the shapes of its weights."""

from collections.abc import Mapping

from models.architecture import Spec
from models.catalog import declarations
from models.signature import ImageInput, Signature, TableInput, TokenInput

Shape = tuple[int, ...]


def outputs(shapes: Mapping[str, Shape], spec: Spec, signature: Signature) -> int | None:
    """How many outputs the last layer has; None where no tensor says so. `signature` is right but for them."""
    more = signature.model_copy(update={"outputs": signature.outputs + 1})
    return _dimension(shapes, spec, signature, more)


def channels(shapes: Mapping[str, Shape], spec: Spec, signature: Signature) -> int | None:
    """How many channels the first layer takes, or all values of an image where it is flattened."""
    assert isinstance(signature.input, ImageInput)
    other = 1 if signature.input.channels == 3 else 3
    return _dimension(shapes, spec, signature, _taking(signature, channels=other))


def features(shapes: Mapping[str, Shape], spec: Spec, signature: Signature) -> int | None:
    """How many numbers a row has."""
    assert isinstance(signature.input, TableInput)
    return _dimension(shapes, spec, signature, _taking(signature, features=signature.input.features + 1))


def vocabulary(shapes: Mapping[str, Shape], spec: Spec, signature: Signature) -> int | None:
    """How many tokens the network has embeddings of."""
    assert isinstance(signature.input, TokenInput)
    return _dimension(shapes, spec, signature, _taking(signature, vocabulary=signature.input.vocabulary + 1))


def _taking(signature: Signature, **changes: int) -> Signature:
    return signature.model_copy(update={"input": signature.input.model_copy(update=changes)})


def _dimension(shapes: Mapping[str, Shape], spec: Spec, one: Signature, other: Signature) -> int | None:
    """The dimension in which the declarations for two signatures differ, as it is in these shapes."""
    there = declarations(spec, other)
    for name, tensor in declarations(spec, one).items():
        found = shapes.get(name, ())
        if len(found) == len(tensor.shape) == len(there[name].shape):
            for axis, (size, size_there) in enumerate(zip(tensor.shape, there[name].shape, strict=True)):
                if size != size_there:
                    return found[axis]
    return None
