"""DistilBERT in JAX. Twin: torch.py.

Shape suffixes: B batch, T tokens, H heads, D features of a head, C features of a token, K classes.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108; names are transformers'.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.distilbert.spec import EPSILON, DistilBERTSpec
from models.frameworks.jax.attention import attention_weights, merge_heads, split_heads
from models.frameworks.jax.layers import ACTIVATIONS, DType, LayerNorm, linear
from models.frameworks.jax.noise import Dropout
from models.frameworks.jax.tokens import Embedding
from models.signature import Signature


class Embeddings(nnx.Module):
    def __init__(self, spec: DistilBERTSpec, vocabulary: int, padding: int, dtype: DType) -> None:
        self.word_embeddings = Embedding(vocabulary, spec.hidden, dtype, padding=padding)
        self.position_embeddings = Embedding(spec.positions, spec.hidden, dtype)
        self.LayerNorm = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)
        self.dropout = Dropout(spec.dropout)

    def __call__(self, ids_BT: jax.Array, training: bool) -> jax.Array:
        places_1T = jnp.arange(ids_BT.shape[1])[None]
        x_BTC = self.word_embeddings(ids_BT) + self.position_embeddings(places_1T)
        return self.dropout(self.LayerNorm(x_BTC), training)


class SelfAttention(nnx.Module):
    def __init__(self, spec: DistilBERTSpec, dtype: DType) -> None:
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (
            linear(spec.hidden, spec.hidden, dtype) for _ in range(4)
        )
        self.dropout = Dropout(spec.attention_dropout)
        self.heads = spec.heads

    def __call__(self, x_BTC: jax.Array, allowed_BT: jax.Array, training: bool) -> jax.Array:
        q_BHTD, k_BHTD, v_BHTD = (
            split_heads(project(x_BTC), self.heads) for project in (self.q_lin, self.k_lin, self.v_lin)
        )
        weights_BHTT = self.dropout(attention_weights(q_BHTD, k_BHTD, allowed_BT), training)
        return self.out_lin(merge_heads(weights_BHTT @ v_BHTD))


class FFN(nnx.Module):
    def __init__(self, spec: DistilBERTSpec, dtype: DType) -> None:
        self.dropout = Dropout(spec.dropout)
        self.lin1 = linear(spec.hidden, spec.mlp, dtype)
        self.lin2 = linear(spec.mlp, spec.hidden, dtype)

    def __call__(self, x_BTC: jax.Array, training: bool) -> jax.Array:
        return self.dropout(self.lin2(ACTIVATIONS["gelu"](self.lin1(x_BTC))), training)


class TransformerBlock(nnx.Module):
    def __init__(self, spec: DistilBERTSpec, dtype: DType) -> None:
        self.attention = SelfAttention(spec, dtype)
        self.sa_layer_norm = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)
        self.ffn = FFN(spec, dtype)
        self.output_layer_norm = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)

    def __call__(self, x_BTC: jax.Array, allowed_BT: jax.Array, training: bool) -> jax.Array:
        x_BTC = self.sa_layer_norm(self.attention(x_BTC, allowed_BT, training) + x_BTC)
        return self.output_layer_norm(self.ffn(x_BTC, training) + x_BTC)


class Transformer(nnx.Module):
    def __init__(self, spec: DistilBERTSpec, dtype: DType) -> None:
        self.layer = nnx.List([TransformerBlock(spec, dtype) for _ in range(spec.layers)])

    def __call__(self, x_BTC: jax.Array, allowed_BT: jax.Array, training: bool) -> jax.Array:
        for block in self.layer:
            x_BTC = block(x_BTC, allowed_BT, training)
        return x_BTC


class Backbone(nnx.Module):
    """transformers' DistilBertModel."""

    def __init__(self, spec: DistilBERTSpec, vocabulary: int, padding: int, dtype: DType) -> None:
        self.embeddings = Embeddings(spec, vocabulary, padding, dtype)
        self.transformer = Transformer(spec, dtype)

    def __call__(self, ids_BT: jax.Array, allowed_BT: jax.Array, training: bool) -> jax.Array:
        return self.transformer(self.embeddings(ids_BT, training), allowed_BT, training)


class DistilBERT(nnx.Module):
    def __init__(
        self, spec: DistilBERTSpec, vocabulary: int, padding: int, classes: int, dtype: DType
    ) -> None:
        self.padding = padding
        self.distilbert = Backbone(spec, vocabulary, padding, dtype)
        self.pre_classifier = linear(spec.hidden, spec.hidden, dtype)
        self.classifier = linear(spec.hidden, classes, dtype)
        self.dropout = Dropout(spec.classifier_dropout)

    def __call__(self, ids_BT: jax.Array, training: bool) -> jax.Array:
        """ids_BT, padded at the end. Returns logits [B, K]."""
        x_BTC = self.distilbert(ids_BT, ids_BT != self.padding, training)
        first_BC = nnx.relu(self.pre_classifier(x_BTC[:, 0]))
        return self.classifier(self.dropout(first_BC, training))


def build(spec: DistilBERTSpec, signature: Signature, dtype: DType) -> DistilBERT:
    taken = spec.tokens(signature)
    return DistilBERT(spec, taken.vocabulary, taken.padding, signature.outputs, dtype)
