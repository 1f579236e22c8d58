"""DistilBERT for texts. Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Tensor, constant, embedding, layer_norm, linear, normal
from models.errors import InvalidInput
from models.published import Published
from models.signature import Signature
from models.text_spec import TextSpec

EPSILON = 1e-12
DEVIATION = 0.02


class DistilBERTSpec(TextSpec):
    """transformers' DistilBertForSequenceClassification, with its names and weights."""

    architecture: Literal["distilbert"] = "distilbert"
    layers: int = Field(default=6, ge=1, le=48, description="Encoder layers.")
    heads: int = Field(
        default=12, ge=1, le=64, description="Attention heads; they share the hidden features."
    )
    hidden: int = Field(default=768, ge=1, le=4096, description="Features of a token.")
    mlp: int = Field(default=3072, ge=1, le=16384, description="Units of each layer's hidden layer.")
    positions: int = Field(default=512, ge=4, le=4096, description="The most tokens that it can ever read.")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of features that are zeroed in training."
    )
    attention_dropout: float = Field(default=0.1, ge=0, lt=1, description="The same of attention weights.")
    classifier_dropout: float = Field(default=0.2, ge=0, lt=1, description="The same before the last layer.")

    title: ClassVar[str] = "DistilBERT"
    framed: ClassVar[bool] = True

    def check(self, signature: Signature) -> None:
        super().check(signature)
        if self.hidden % self.heads:
            raise InvalidInput(
                f"{self.heads} heads cannot share {self.hidden} hidden features evenly; use"
                f" {max(n for n in range(1, self.heads + 1) if self.hidden % n == 0)} heads.",
                pointer="/model/heads",
            )
        if self.length > self.positions:
            raise InvalidInput(
                f"length is {self.length}, but the network has {self.positions} positions; use at most"
                f" {self.positions}.",
                pointer="/model/length",
            )

    def head(self) -> tuple[str, ...]:
        return ("pre_classifier.", "classifier.")

    def published(self) -> tuple[Published, ...]:
        if (self.layers, self.heads, self.hidden, self.mlp, self.positions) != (6, 12, 768, 3072, 512):
            return ()
        return tuple(
            Published(name, "huggingface", f"distilbert/{name}")
            for name in (
                "distilbert-base-uncased",
                "distilbert-base-cased",
                "distilbert-base-multilingual-cased",
            )
        )

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        taken, embeddings = self.tokens(signature), "distilbert.embeddings"
        yield from embedding(
            f"{embeddings}.word_embeddings", taken.vocabulary, self.hidden, DEVIATION, taken.padding
        )
        yield from embedding(f"{embeddings}.position_embeddings", self.positions, self.hidden, DEVIATION)
        yield from layer_norm(f"{embeddings}.LayerNorm", self.hidden)
        for layer in range(self.layers):
            yield from self._layer(f"distilbert.transformer.layer.{layer}")
        yield from _linear("pre_classifier", self.hidden, self.hidden)
        yield from _linear("classifier", self.hidden, signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 16,
            "optimizer": {"name": "adamw", "learning_rate": 5e-5, "weight_decay": 0.01},
            "schedule": {"name": "linear", "warmup_steps": 100},
            "gradient_clip_norm": 1.0,
        }

    def _layer(self, name: str) -> Iterator[Tensor]:
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield from _linear(f"{name}.attention.{part}", self.hidden, self.hidden)
        yield from layer_norm(f"{name}.sa_layer_norm", self.hidden)
        yield from _linear(f"{name}.ffn.lin1", self.hidden, self.mlp)
        yield from _linear(f"{name}.ffn.lin2", self.mlp, self.hidden)
        yield from layer_norm(f"{name}.output_layer_norm", self.hidden)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[Tensor]:
    return linear(name, inputs, outputs, weight=normal(DEVIATION), bias=constant(0))
