"""A bidirectional LSTM for texts. Source: Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Tensor, embedding, linear, uniform
from models.signature import Signature
from models.text_spec import TextSpec

EMBEDDING = 0.1
"""Standard deviation of the first embeddings. With torch's usual 1, what few texts teach is lost in the noise."""


class BiLSTMSpec(TextSpec):
    """Embeddings, a bidirectional LSTM of several layers, the largest and the mean of what it says at every token, and
    one linear layer at the end."""

    architecture: Literal["bilstm"] = "bilstm"
    embedding: int = Field(default=100, ge=1, le=4096, description="Features of a token.")
    hidden: int = Field(default=128, ge=1, le=4096, description="Features of each direction.")
    layers: int = Field(default=2, ge=1, le=16, description="LSTM layers, one over the other.")
    embedding_dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Share of the embeddings' features that are zeroed in training."
    )
    dropout: float = Field(
        default=0.7,
        ge=0,
        lt=1,
        description="Share of features that are zeroed in training, between the LSTM layers and before the linear one.",
    )

    title: ClassVar[str] = "Bidirectional LSTM"

    def head(self) -> tuple[str, ...]:
        return ("fc.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        taken = self.tokens(signature)
        yield from embedding("embedding", taken.vocabulary, self.embedding, EMBEDDING, taken.padding)
        for layer in range(self.layers):
            for direction in ("", "_reverse"):
                yield from self._layer(layer, direction)
        yield from linear("fc", 4 * self.hidden, signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 16,
            "optimizer": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4},
            "schedule": {"name": "cosine"},
            "gradient_clip_norm": 1.0,
        }

    def _layer(self, layer: int, direction: str) -> Iterator[Tensor]:
        """One direction of a layer: four gates, i, f, g and o, with both of torch's biases."""
        gates, draw = 4 * self.hidden, uniform(1 / sqrt(self.hidden))
        inputs = self.embedding if layer == 0 else 2 * self.hidden
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, inputs), "weight_hh": (gates, self.hidden)}
        shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        for name, shape in shapes.items():
            yield Tensor(f"lstm.{name}_l{layer}{direction}", shape, draw)
