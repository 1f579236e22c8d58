"""The transformer encoder in JAX. Twin: torch.py.

Shape suffixes: B batch, T tokens, C features of a token, K classes.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; names are those of torch.nn.TransformerEncoderLayer.
"""

import jax
from flax import nnx

from models.frameworks.jax.attention import MultiHeadAttention
from models.frameworks.jax.layers import ACTIVATIONS, DType, LayerNorm, linear
from models.frameworks.jax.noise import Dropout
from models.frameworks.jax.tokens import Embedding, mean_of
from models.signature import Signature
from models.transformer.spec import TransformerSpec


class EncoderLayer(nnx.Module):
    def __init__(self, spec: TransformerSpec, dtype: DType) -> None:
        self.self_attn = MultiHeadAttention(spec.hidden, spec.heads, dtype)
        self.linear1 = linear(spec.hidden, spec.mlp, dtype)
        self.dropout = Dropout(spec.dropout)
        self.linear2 = linear(spec.mlp, spec.hidden, dtype)
        self.norm1 = LayerNorm(spec.hidden, dtype)
        self.norm2 = LayerNorm(spec.hidden, dtype)
        self.dropout1 = Dropout(spec.dropout)
        self.dropout2 = Dropout(spec.dropout)

    def __call__(self, x_BTC: jax.Array, allowed_BT: jax.Array, training: bool) -> jax.Array:
        x_BTC = x_BTC + self.dropout1(self.self_attn(self.norm1(x_BTC), allowed_BT), training)
        y_BTC = ACTIVATIONS["gelu"](self.linear1(self.norm2(x_BTC)))
        return x_BTC + self.dropout2(self.linear2(self.dropout(y_BTC, training)), training)


class Transformer(nnx.Module):
    def __init__(
        self, spec: TransformerSpec, vocabulary: int, length: int, padding: int, classes: int, dtype: DType
    ) -> None:
        self.padding = padding
        self.embedding = Embedding(vocabulary, spec.hidden, dtype, padding=padding)
        self.positions = Embedding(length, spec.hidden, dtype)
        self.dropout = Dropout(spec.dropout)
        self.layers = nnx.List([EncoderLayer(spec, dtype) for _ in range(spec.layers)])
        self.norm = LayerNorm(spec.hidden, dtype)
        self.fc = linear(spec.hidden, classes, dtype)

    def __call__(self, ids_BT: jax.Array, training: bool) -> jax.Array:
        """ids_BT, padded at the end. Returns logits [B, K]."""
        allowed_BT = ids_BT != self.padding
        positions_TC = self.positions.weight[: ids_BT.shape[1]].astype(self.positions.dtype)
        x_BTC = self.dropout(self.embedding(ids_BT) + positions_TC, training)
        for layer in self.layers:
            x_BTC = layer(x_BTC, allowed_BT, training)
        return self.fc(mean_of(self.norm(x_BTC), allowed_BT))


def build(spec: TransformerSpec, signature: Signature, dtype: DType) -> Transformer:
    taken = spec.tokens(signature)
    return Transformer(spec, taken.vocabulary, taken.length, taken.padding, signature.outputs, dtype)
