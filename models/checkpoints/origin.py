"""What a run starts from: a state as it stands, weights to be fitted to its classes, or the seed."""

from dataclasses import dataclass, replace

from models.architecture import Spec
from models.catalog import declarations
from models.checkpoints.adaptation import adapted
from models.checkpoints.names import canonical
from models.checkpoints.preprocessing import of_images, of_texts, token_signature
from models.checkpoints.published import Fetched
from models.initial import initial_weights
from models.preprocessing import Preprocessing
from models.published import Published
from models.signature import ImageInput, Signature, TextInput
from models.state import TrainingState
from models.tensor_files import read
from models.text_spec import TextSpec
from models.weights import ModelCard, Weights, WeightsFile, check_weights

NOBODYS = ("",)
"""Stands for the classes of a published checkpoint: they are never those of a dataset."""


@dataclass(frozen=True)
class Origin:
    """What a run starts from.

    `known`: the preprocessing that the weights are used to. `state` stands as it is; `weights` are those of the same
    network with perhaps other `classes`; with neither, the seed decides.
    """

    known: Preprocessing | None = None
    state: TrainingState | None = None
    weights: Weights | None = None
    classes: tuple[str, ...] | None = None

    def begin(self, card: ModelCard, seed: int) -> TrainingState:
        """The state from which to train this model. Raises InvalidInput where the weights do not fit it."""
        state = replace(self.state or TrainingState(self._first_weights(card, seed)), card=card)
        check_weights(state.weights, card)
        return state

    def _first_weights(self, card: ModelCard, seed: int) -> Weights:
        if self.weights is None:
            return initial_weights(card.model, card.signature, seed)
        same = self.classes == card.classes
        return adapted(self.weights, card.model, card.signature, same_classes=same, seed=seed)


def of_state(state: TrainingState) -> Origin:
    """A checkpoint, with the preprocessing that its run used."""
    return Origin(None if state.card is None else state.card.preprocessing, state)


def of_model(file: WeightsFile) -> Origin:
    return Origin(file.card.preprocessing, weights=file.weights, classes=file.card.classes)


def of_published(published: Published, fetched: Fetched, spec: Spec, signature: Signature) -> Origin:
    """A published checkpoint, for a job whose dataset promises this signature.

    Raises InvalidInput where the tokenizer does not fit the weights.
    """
    named = token_signature(spec) if isinstance(signature.input, TextInput) else signature
    weights = canonical(read(fetched.weights)[1], declarations(spec, named).keys())
    return Origin(_known(published, fetched, weights, spec, signature), weights=weights, classes=NOBODYS)


def _known(
    published: Published, fetched: Fetched, weights: Weights, spec: Spec, signature: Signature
) -> Preprocessing | None:
    if isinstance(spec, TextSpec) and fetched.tokenizer is not None:
        return of_texts(weights, spec, fetched.tokenizer)
    if isinstance(signature.input, ImageInput) and published.mean is not None and published.std is not None:
        return of_images(signature.input, published.mean, published.std)
    return None
