"""A prediction as the service sees it, in whatever protocol it is asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import orjson

from app.prediction.batching import Computed, Limits
from app.prediction.cache import LoadedModel
from app.schemas.predictions import Engine
from models.framework import EngineName
from models.weights import ModelCard
from workers.registry import ModelVersion

Header = tuple[bytes, bytes]


class Reply(NamedTuple):
    """The body of an answer, and the headers that its protocol has; names in lower case."""

    body: bytes
    headers: tuple[Header, ...]


@dataclass(frozen=True)
class Served:
    """A version on one engine, and its bounds."""

    version: ModelVersion
    engine: EngineName
    model: LoadedModel
    limits: Limits

    @cached_property
    def named(self) -> orjson.Fragment:
        """The version as answers have it: JSON that is written once."""
        about = self.version
        return orjson.Fragment(
            orjson.dumps({"name": about.name, "version": about.version, "framework": about.framework})
        )


class Query(Protocol):
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

    def write(self, served: Served, computed: Computed) -> Reply:
        """The answer. Raises InvalidInput where the logits are no answer."""
        ...
