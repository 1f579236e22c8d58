"""Weights of a network fitted to the same network with other classes, grey images or images of another size."""

from collections.abc import Mapping
from typing import Literal

from models.architecture import Spec
from models.catalog import declarations
from models.checkpoints.positions import interpolated, is_grid
from models.errors import InvalidInput
from models.initial import drawn
from models.signature import Signature
from models.weights import Weights

Change = Literal["drawn", "grey", "positions"]
Shape = tuple[int, ...]


def adapted(weights: Weights, spec: Spec, signature: Signature, *, same_classes: bool, seed: int) -> Weights:
    """The network's tensors, from those of a network with other classes.

    Tensors of the last layers that depend on the classes are drawn from the seed where the classes are others; a
    first convolution for coloured images is summed over its channels for grey ones; a vision transformer's position
    embeddings are interpolated. All others stay.

    Raises:
        InvalidInput: a tensor of the backbone differs in another way; the message names it and both shapes.
    """
    shapes = {name: array.shape for name, array in weights.items()}
    todo = changes(shapes, spec, signature, same_classes=same_classes)
    found = {}
    for name, tensor in declarations(spec, signature).items():
        match todo.get(name):
            case "drawn":
                found[name] = drawn(tensor, seed)
            case "grey":
                # The same grey in all three channels gives what their sum gives in one.
                found[name] = weights[name].sum(axis=1, keepdims=True)
            case "positions":
                found[name] = interpolated(weights[name], tensor.shape[1])
            case None:
                found[name] = weights[name]
    return found


def changes(
    shapes: Mapping[str, Shape], spec: Spec, signature: Signature, *, same_classes: bool
) -> dict[str, Change]:
    """What would have to be done to tensors of these shapes; nothing is said of those that stay.

    Raises:
        InvalidInput: they cannot be fitted.
    """
    wanted = {name: tensor.shape for name, tensor in declarations(spec, signature).items()}
    for name in sorted(shapes.keys() - wanted.keys()):
        if not spec.in_head(name):
            raise _misfit(name, shapes[name], None)
    of_classes = frozenset() if same_classes else class_tensors(spec, signature)
    found = {
        name: _change(name, shapes.get(name), shape, spec, renewed=name in of_classes)
        for name, shape in wanted.items()
    }
    return {name: change for name, change in found.items() if change is not None}


def class_tensors(spec: Spec, signature: Signature) -> frozenset[str]:
    """The tensors of the last layers whose shape depends on the number of classes."""
    more = signature.model_copy(update={"outputs": signature.outputs + 1})
    larger = declarations(spec, more)
    return frozenset(
        name
        for name, tensor in declarations(spec, signature).items()
        if spec.in_head(name) and tensor.shape != larger[name].shape
    )


def _change(name: str, old: Shape | None, new: Shape, spec: Spec, *, renewed: bool) -> Change | None:
    if renewed or (old != new and spec.in_head(name)):
        if old is not None and old[1:] != new[1:]:
            raise _misfit(name, old, new)  # another network, and not the same one with other classes
        return "drawn"
    if old == new:
        return None
    if old is not None and len(old) == len(new) == 4 and (old[1], new[1]) == (3, 1) and _same_but(old, new):
        return "grey"
    if old is not None and name.endswith("pos_embedding") and _same_but(old, new) and is_grid(old[1]):
        return "positions"
    raise _misfit(name, old, new)


def _same_but(old: Shape, new: Shape) -> bool:
    """Whether only the second dimension differs."""
    return (old[0], *old[2:]) == (new[0], *new[2:])


def _misfit(name: str, old: Shape | None, new: Shape | None) -> InvalidInput:
    return InvalidInput(
        f"The weights do not fit this job: {name!r} is {_text(old)} there and {_text(new)} here. Use the same model"
        " options, and a dataset of the same shape.",
        code="shape_mismatch",
    )


def _text(shape: Shape | None) -> str:
    return "absent" if shape is None else str(list(shape))
