"""A prediction as the service sees it, in whatever protocol it is asked for."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from app.prediction.batching import Computed
from app.prediction.cache import LoadedModel
from app.schemas.predictions import Engine
from models.framework import Framework
from models.weights import ModelCard
from workers.registry import ModelVersion

T = TypeVar("T", covariant=True)


@dataclass(frozen=True)
class Served:
    """A version on one engine."""

    version: ModelVersion
    framework: Framework
    model: LoadedModel


class Query(Protocol[T]):
    """What is asked, and how it is answered."""

    @property
    def model(self) -> str:
        """`name`, `name@3`, `name@alias` or a job's id."""
        ...

    @property
    def engine(self) -> Engine: ...

    @property
    def timeout_s(self) -> float | None:
        """How long the client would wait; None: as long as the server's settings say."""
        ...

    def is_quick(self, card: ModelCard) -> bool:
        """Whether reading the inputs takes less than handing them to a thread would."""
        ...

    def read(self, card: ModelCard) -> np.ndarray:
        """The inputs as `Predictor.logits` takes them; every fault of theirs is found here. Raises InvalidInput."""
        ...

    def write(self, served: Served, computed: Computed) -> T:
        """The answer. Raises InvalidInput where the logits are no answer."""
        ...
