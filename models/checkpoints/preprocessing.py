"""The preprocessing that weights from elsewhere are used to."""

from collections.abc import Sequence

from models.architecture import Spec
from models.checkpoints import tokenizers
from models.checkpoints.shapes import vocabulary
from models.errors import InvalidInput
from models.preprocessing import ImagePreprocessing, TextPreprocessing
from models.signature import ImageInput, Signature, TokenInput
from models.text_spec import TextSpec
from models.weights import Weights


def of_images(taken: ImageInput, mean: Sequence[float], std: Sequence[float]) -> ImagePreprocessing:
    """Images of this size, normalised so; for grey images with the means over the channels."""
    if taken.channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return ImagePreprocessing(
        height=taken.height, width=taken.width, channels=taken.channels, mean=tuple(mean), std=tuple(std)
    )


def of_texts(weights: Weights, spec: TextSpec, tokenizer: str) -> TextPreprocessing:
    """Texts as this tokenizer splits them, for a network with embeddings of so many tokens.

    Raises:
        InvalidInput: the tokenizer has more tokens than the network has embeddings of, no id for unknown words, or
            nothing to fill short texts up with.
    """
    shapes = {name: array.shape for name, array in weights.items()}
    rows = vocabulary(shapes, spec, token_signature(spec))
    if rows is None:
        raise InvalidInput(
            f"The weights have no embeddings of tokens where {spec.name!r} has them.", code="missing_weights"
        )
    tokenizers.check(tokenizer, rows)
    padding = tokenizers.padding_id(tokenizer, rows)
    return TextPreprocessing(tokenizer=tokenizer, length=spec.length, padding=padding, vocabulary=rows)


def token_signature(spec: Spec) -> Signature:
    """A signature that the network's tensors have their names by, whatever its vocabulary."""
    length = spec.length if isinstance(spec, TextSpec) else 1
    return Signature(
        task="text-classification", input=TokenInput(vocabulary=1, length=length, padding=0), outputs=2
    )
