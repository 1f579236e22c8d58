"""A small transformer encoder for texts, to be trained from scratch.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; norms first as in Xiong et al. 2020, arXiv 2002.04745.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from models.architecture import Tensor, constant, embedding, layer_norm, linear, xavier
from models.errors import InvalidInput
from models.signature import Signature
from models.text_spec import TextSpec


class TransformerSpec(TextSpec):
    """Embeddings of tokens and positions, encoder layers with norms first, the mean over the tokens, and one linear
    layer at the end."""

    architecture: Literal["transformer"] = "transformer"
    layers: int = Field(default=2, ge=1, le=48, description="Encoder layers.")
    heads: int = Field(default=4, ge=1, le=64, description="Attention heads; they share the hidden features.")
    hidden: int = Field(default=128, ge=1, le=4096, description="Features of a token.")
    mlp: int = Field(default=512, ge=1, le=16384, description="Units of each layer's hidden layer.")
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of features that are zeroed in training."
    )

    title: ClassVar[str] = "Transformer encoder"

    def check(self, signature: Signature) -> None:
        super().check(signature)
        if self.hidden % self.heads:
            raise InvalidInput(
                f"{self.heads} heads cannot share {self.hidden} hidden features evenly; use"
                f" {max(n for n in range(1, self.heads + 1) if self.hidden % n == 0)} heads.",
                pointer="/model/heads",
            )

    def head(self) -> tuple[str, ...]:
        return ("fc.",)

    def tensors(self, signature: Signature) -> Iterator[Tensor]:
        taken = self.tokens(signature)
        yield from embedding("embedding", taken.vocabulary, self.hidden, 0.02, taken.padding)
        yield from embedding("positions", taken.length, self.hidden, 0.02)
        for layer in range(self.layers):
            yield from self._layer(f"layers.{layer}")
        yield from layer_norm("norm", self.hidden)
        yield from linear("fc", self.hidden, signature.outputs)

    def training_defaults(self, signature: Signature) -> dict[str, Any]:
        return {
            "batch_size": 32,
            "optimizer": {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 0.01},
            "schedule": {"name": "cosine", "warmup_steps": 100},
            "gradient_clip_norm": 1.0,
        }

    def _layer(self, name: str) -> Iterator[Tensor]:
        hidden, attention = self.hidden, f"{name}.self_attn"
        yield Tensor(f"{attention}.in_proj_weight", (3 * hidden, hidden), xavier(hidden, 3 * hidden))
        yield Tensor(f"{attention}.in_proj_bias", (3 * hidden,), constant(0))
        yield from linear(f"{attention}.out_proj", hidden, hidden, bias=constant(0))
        yield from linear(f"{name}.linear1", hidden, self.mlp)
        yield from linear(f"{name}.linear2", self.mlp, hidden)
        yield from layer_norm(f"{name}.norm1", hidden)
        yield from layer_norm(f"{name}.norm2", hidden)
