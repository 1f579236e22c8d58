"""Which published checkpoint a job asks for, and what its network was when it was published."""

from models.architecture import Spec
from models.errors import InvalidInput
from models.job import FromPretrained, Init
from models.published import Published


def chosen(spec: Spec, init: Init) -> Published | None:
    """The published checkpoint that a job starts from; None where it starts from something else.

    Raises:
        InvalidInput: no such checkpoint is known, or none fits the options.
    """
    if init.source != "pretrained" and not isinstance(init.source, FromPretrained):
        return None
    known = {one.name: one for one in spec.published()}
    if not known:
        raise InvalidInput(
            f"No published checkpoint fits these options of {spec.name!r}. Start from 'scratch' or from a model, or"
            " leave the options at their defaults.",
            pointer="/init/from",
            code="no_published_checkpoint",
        )
    name = init.source.pretrained if isinstance(init.source, FromPretrained) else next(iter(known))
    if name not in known:
        raise InvalidInput(
            f"{spec.name!r} with these options has no published checkpoint {name!r}. Known: {', '.join(known)}.",
            pointer="/init/from/pretrained",
            code="unknown_checkpoint",
        )
    return known[name]
