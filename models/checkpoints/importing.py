"""A checkpoint that somebody has, as a model that can be served: what it takes and gives is read off its weights.

A file of ours says all that itself. Of any other the architecture must be known, for texts the tokenizer, and what else
the weights cannot tell: the names of the classes, the size and normalisation of images.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from models import catalog
from models.architecture import Spec
from models.catalog import ModelSpec
from models.checkpoints import shapes as shapes_of
from models.checkpoints.agreement import as_declared, check_agreement
from models.checkpoints.names import canonical
from models.checkpoints.preprocessing import of_images, of_texts, token_signature
from models.errors import InvalidInput
from models.preprocessing import ImagePreprocessing, Preprocessing, TablePreprocessing, TextPreprocessing
from models.preprocessing.options import PreprocessSpec
from models.signature import ImageInput, Input, Signature, TableInput, Task
from models.tensor_files import read
from models.text_spec import TextSpec
from models.weights import ModelCard, Weights, WeightsFile, check_names, check_weights

Shapes = Mapping[str, tuple[int, ...]]
CARD = "tandem"
KINDS = {"preprocess": "images", "tokenizer": "texts", "columns": "rows"}
"""Options, and the kind of input that each is for."""
REGRESSION: Task = "tabular-regression"


@dataclass(frozen=True)
class ImportOptions:
    """What the file does not say.

    model: the architecture with its options. task: where the architecture does several. classes: their names in the
    order of the outputs. columns: the names of a row's numbers. preprocess: how images become the network's input.
    tokenizer: the JSON of one.
    """

    model: ModelSpec | None = None
    task: Task | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    tokenizer: str | None = None


def imported(path: Path, options: ImportOptions) -> WeightsFile:
    """The model in a safetensors file, its tensors under their canonical names; they lie in the file.

    Raises:
        InvalidInput: the file is damaged, is of another network, or more must be said; `pointer` names what.
    """
    try:
        metadata, found = read(path)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"The checkpoint cannot be read: {error}.", pointer="/file", code="unreadable_checkpoint"
        ) from error
    card = _card(metadata)
    if card is not None and options.model in (None, card.model):
        return _described(card, found, options)
    if options.model is None:
        raise InvalidInput(
            "The file does not say what network it is of. Give 'model', for example"
            ' {"architecture": "resnet50"} (GET /architectures lists them).',
            pointer="/model",
            code="missing",
        )
    return _read_off(found, options.model, options)


def _card(metadata: Mapping[str, str]) -> ModelCard | None:
    """What a file of ours says of itself."""
    try:
        return ModelCard.model_validate_json(metadata[CARD])
    except (KeyError, ValueError):
        return None


def _described(card: ModelCard, weights: Weights, options: ImportOptions) -> WeightsFile:
    """A file of ours; what is asked for besides replaces what it says."""
    for name in ("task", "columns", "tokenizer"):
        if getattr(options, name) is not None:
            raise InvalidInput(f"The file says its {name} itself; leave it out.", pointer=f"/{name}")
    preprocessing, signature = card.preprocessing, card.signature
    if options.preprocess != PreprocessSpec():
        taken, preprocessing = _pictures(card, options.preprocess)
        signature = signature.model_copy(update={"input": taken})
    classes = options.classes or card.classes
    return _checked(card.model, signature, preprocessing, classes, weights)


def _pictures(card: ModelCard, options: PreprocessSpec) -> tuple[Input, Preprocessing]:
    taken, before = card.signature.input, card.preprocessing
    if not isinstance(taken, ImageInput) or not isinstance(before, ImagePreprocessing):
        raise _not_for("preprocess", KINDS["preprocess"], card.model)
    height, width = options.size or (taken.height, taken.width)
    size = ImageInput(height=height, width=width, channels=taken.channels)
    made = of_images(size, *_normalisation(options, size.channels, before.mean, before.std))
    return size, made.model_copy(update={"resize": options.resize or before.resize})


def _read_off(found: Weights, spec: ModelSpec, options: ImportOptions) -> WeightsFile:
    """Tensors under anybody's names, of a network that is known."""
    known = catalog.declarations(spec, _any_signature(spec, options)).keys()
    weights = canonical(found, known)
    _check_complete(weights, known, spec)
    shapes = {name: array.shape for name, array in weights.items()}
    taken, preprocessing = _input(weights, shapes, spec, options)
    signature = _signature(shapes, spec, taken, options)
    classes = None if signature.task == REGRESSION else options.classes or _numbers(signature.outputs)
    return _checked(spec, signature, preprocessing, classes, weights)


def _checked(
    spec: ModelSpec,
    signature: Signature,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None,
    weights: Weights,
) -> WeightsFile:
    """The file, once all of it fits together."""
    if classes is not None and signature.task == REGRESSION:
        raise InvalidInput("This network predicts a number; leave 'classes' out.", pointer="/classes")
    if classes is not None and len(classes) != signature.outputs:
        raise InvalidInput(
            f"There are {len(classes)} classes, but the network has {signature.outputs} outputs. Name each of them, in"
            " their order.",
            pointer="/classes",
            code="shape_mismatch",
        )
    card = ModelCard(model=spec, signature=signature, preprocessing=preprocessing, classes=classes)
    try:
        check_agreement(card)
        catalog.check(spec, signature)
        typed = as_declared(weights, catalog.declarations(spec, signature))
        check_weights(typed, card)
    except InvalidInput as error:
        raise _of_the_file(error) from None
    return WeightsFile(card, {name: typed[name] for name in catalog.declarations(spec, signature)})


def _check_complete(weights: Weights, known: Collection[str], spec: Spec) -> None:
    missing = set(known) - weights.keys()
    if missing and all(spec.in_head(name) for name in missing):
        raise InvalidInput(
            f"The file lacks {min(missing)!r} and so the last layers: it is a backbone that was trained for"
            " something else, and cannot predict yet. Train it first: put it where published checkpoints are read from"
            ' (TANDEM_PRETRAINED_DIR), and start a job with {"init": {"from": "pretrained"}}.',
            pointer="/file",
            code="missing_weights",
        )
    try:
        check_names(weights.keys(), known)
    except InvalidInput as error:
        raise _of_the_file(error) from None


def _input(
    weights: Weights, shapes: Shapes, spec: Spec, options: ImportOptions
) -> tuple[Input, Preprocessing]:
    if isinstance(spec, TextSpec):
        _refuse_all_but("tokenizer", spec, options)
        return _texts(weights, spec, options)
    if _takes_images(spec, options):
        _refuse_all_but("preprocess", spec, options)
        return _images(shapes, spec, options)
    _refuse_all_but("columns", spec, options)
    return _rows(shapes, spec, options)


def _refuse_all_but(fitting: str, spec: Spec, options: ImportOptions) -> None:
    """Of the options that are for one kind of input, only that of this kind may be given."""
    for name, kind in KINDS.items():
        if name != fitting and getattr(options, name) not in (None, PreprocessSpec()):
            raise _not_for(name, kind, spec)


def _texts(weights: Weights, spec: TextSpec, options: ImportOptions) -> tuple[Input, TextPreprocessing]:
    if options.tokenizer is None:
        raise InvalidInput(
            f"{spec.name!r} reads tokens: send the checkpoint's tokenizer too, its tokenizer.json or vocab.txt, as a"
            " file part named 'tokenizer'.",
            pointer="/tokenizer",
            code="missing",
        )
    try:
        preprocessing = of_texts(weights, spec, options.tokenizer)
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer="/tokenizer", code=error.specific_code) from None
    return preprocessing.input, preprocessing


def _images(shapes: Shapes, spec: Spec, options: ImportOptions) -> tuple[Input, ImagePreprocessing]:
    side = spec.image_side(shapes)
    size = options.preprocess.size or (side and (side, side))
    if not size:
        raise InvalidInput(
            "The weights do not tell how large the images are. Give their height and width:"
            " {\"size\": [32, 32]} in 'preprocess'.",
            pointer="/preprocess/size",
            code="missing",
        )
    taken = ImageInput(height=size[0], width=size[1], channels=_channels(shapes, spec, size))
    usual = next(iter(spec.published()), None)
    mean, std = (usual and usual.mean) or (0.0,), (usual and usual.std) or (1.0,)
    made = of_images(taken, *_normalisation(options.preprocess, taken.channels, mean, std))
    resize = options.preprocess.resize or ("stretch" if usual is None else "crop")
    return taken, made.model_copy(update={"resize": resize})


def _channels(shapes: Shapes, spec: Spec, size: tuple[int, int]) -> Literal[1, 3]:
    """Of a network that flattens its images, their values are counted; others say it in their first layer."""
    three = ImageInput(height=size[0], width=size[1], channels=3)
    task: Task = "image-classification"
    found = shapes_of.channels(shapes, spec, Signature(task=task, input=three, outputs=2)) or 0
    channels, rest = (found, 0) if found in (1, 3) else divmod(found, prod(size))
    if rest == 0 and channels == 1:
        return 1
    if rest == 0 and channels == 3:
        return 3
    raise InvalidInput(
        f"The first layer takes {found} values, which images of {size[0]}x{size[1]} pixels with 1 or 3 channels do"
        " not have. Give another 'size' in 'preprocess'.",
        pointer="/preprocess/size",
        code="shape_mismatch",
    )


def _normalisation(
    options: PreprocessSpec, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is asked for, else the usual one: a number per channel, or one for all."""
    if options.mean is None or options.std is None:
        many = channels if len(mean) == 1 else 1
        return mean * many, std * many
    if len(options.mean) != channels:
        raise InvalidInput(
            f"'mean' and 'std' have {len(options.mean)} number(s), but the network takes images with {channels}"
            " channel(s): give one for each.",
            pointer="/preprocess/mean",
        )
    return options.mean, options.std


def _rows(shapes: Shapes, spec: Spec, options: ImportOptions) -> tuple[Input, TablePreprocessing]:
    one = TableInput(features=1, columns=("x0",))
    features = shapes_of.features(shapes, spec, Signature(task=REGRESSION, input=one, outputs=1)) or 0
    columns = options.columns or tuple(f"x{index}" for index in range(features))
    if len(columns) != features:
        raise InvalidInput(
            f"There are {len(columns)} columns, but the network takes {features} numbers. Name each of them, in their"
            " order.",
            pointer="/columns",
            code="shape_mismatch",
        )
    preprocessing = TablePreprocessing(columns=columns, mean=(0.0,) * features, std=(1.0,) * features)
    return preprocessing.input, preprocessing


def _signature(shapes: Shapes, spec: Spec, taken: Input, options: ImportOptions) -> Signature:
    task = options.task or _task(spec, taken, options)
    found = shapes_of.outputs(shapes, spec, Signature(task=task, input=taken, outputs=1))
    return Signature(task=task, input=taken, outputs=found or 1)


def _task(spec: Spec, taken: Input, options: ImportOptions) -> Task:
    if not isinstance(taken, TableInput):
        return "image-classification" if isinstance(taken, ImageInput) else "text-classification"
    if REGRESSION in spec.tasks and options.classes is None:
        raise InvalidInput(
            f"{spec.name!r} may predict a class or a number. Give 'task': one of {', '.join(spec.tasks)}.",
            pointer="/task",
            code="missing",
        )
    return "tabular-classification"


def _any_signature(spec: Spec, options: ImportOptions) -> Signature:
    """One by which the network's tensors have their names, whatever their sizes."""
    if isinstance(spec, TextSpec):
        return token_signature(spec)
    if _takes_images(spec, options):
        image = ImageInput(height=224, width=224, channels=3)
        return Signature(task="image-classification", input=image, outputs=2)
    return Signature(task=REGRESSION, input=TableInput(features=1, columns=("x0",)), outputs=1)


def _takes_images(spec: Spec, options: ImportOptions) -> bool:
    """Of a network that may take rows too: whether something is said of images."""
    if set(spec.tasks) == {"image-classification"}:
        return True
    said = options.task == "image-classification" or options.preprocess != PreprocessSpec()
    return said and "image-classification" in spec.tasks


def _numbers(outputs: int) -> tuple[str, ...]:
    return tuple(map(str, range(outputs)))


def _not_for(name: str, kind: str, spec: Spec) -> InvalidInput:
    return InvalidInput(
        f"{name!r} is for {kind}, which this {spec.name!r} does not take; leave it out.", pointer=f"/{name}"
    )


def _of_the_file(error: InvalidInput) -> InvalidInput:
    return InvalidInput(error.detail, pointer=error.pointer or "/file", code=error.specific_code)
