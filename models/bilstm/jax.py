"""The bidirectional LSTM in JAX. Twin: torch.py.

Shape suffixes: B batch, T tokens, C features, K classes.
Source: Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093; names and gates are those of torch.nn.LSTM.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.bilstm.spec import BiLSTMSpec
from models.frameworks.jax import recurrence
from models.frameworks.jax.layers import DType, linear
from models.frameworks.jax.noise import Dropout
from models.frameworks.jax.tokens import Embedding, mean_of
from models.signature import Signature


class BiLSTM(nnx.Module):
    def __init__(self, spec: BiLSTMSpec, vocabulary: int, padding: int, classes: int, dtype: DType) -> None:
        self.padding = padding
        self.embedding = Embedding(vocabulary, spec.embedding, dtype, padding=padding)
        self.embedding_dropout = Dropout(spec.embedding_dropout)
        self.lstm = recurrence.BiLSTM(spec.embedding, spec.hidden, spec.layers, dtype)
        self.between = nnx.List([Dropout(spec.dropout) for _ in range(spec.layers - 1)])
        self.head_dropout = Dropout(spec.dropout)
        self.fc = linear(4 * spec.hidden, classes, dtype)

    def __call__(self, ids_BT: jax.Array, training: bool) -> jax.Array:
        """ids_BT, padded at the end. Returns logits [B, K]."""
        allowed_BT = ids_BT != self.padding
        lengths_B = allowed_BT.sum(1)
        x_BTC = self.embedding_dropout(self.embedding(ids_BT), training)
        x_BTC = self.lstm(0, x_BTC, lengths_B)
        for layer, dropout in enumerate(self.between, start=1):
            x_BTC = self.lstm(layer, dropout(x_BTC, training), lengths_B)
        pooled_BC = jnp.concatenate((largest_of(x_BTC, allowed_BT), mean_of(x_BTC, allowed_BT)), axis=1)
        return self.fc(self.head_dropout(pooled_BC, training))


def largest_of(x_BTC: jax.Array, allowed_BT: jax.Array) -> jax.Array:
    return jnp.max(jnp.where(allowed_BT[..., None], x_BTC, -jnp.inf), axis=1)


def build(spec: BiLSTMSpec, signature: Signature, dtype: DType) -> BiLSTM:
    taken = spec.tokens(signature)
    return BiLSTM(spec, taken.vocabulary, taken.padding, signature.outputs, dtype)
