"""The vision transformer in JAX. Twin: torch.py.

Shape suffixes: B batch, H height, W width, T tokens, C channels or features, K classes.
Source: Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929; names follow torchvision.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.frameworks.jax.attention import MultiHeadAttention
from models.frameworks.jax.convolutions import PatchConvolution
from models.frameworks.jax.layers import (
    GELU,
    DType,
    LayerNorm,
    TorchParam,
    linear,
    master_dtype,
)
from models.frameworks.jax.noise import Dropout
from models.signature import ImageInput, Signature
from models.vit.spec import EPSILON, ViTSpec


class EncoderBlock(nnx.Module):
    def __init__(self, spec: ViTSpec, dtype: DType) -> None:
        self.ln_1 = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)
        self.self_attention = MultiHeadAttention(spec.hidden, spec.heads, dtype)
        self.dropout = Dropout(spec.dropout)
        self.ln_2 = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)
        self.mlp = nnx.List(
            [
                linear(spec.hidden, spec.mlp, dtype),
                GELU(),
                Dropout(spec.dropout),
                linear(spec.mlp, spec.hidden, dtype),
                Dropout(spec.dropout),
            ]
        )

    def __call__(self, x_BTC: jax.Array, training: bool) -> jax.Array:
        x_BTC = x_BTC + self.dropout(self.self_attention(self.ln_1(x_BTC)), training)
        y_BTC = self.ln_2(x_BTC)
        for module in self.mlp:
            y_BTC = module(y_BTC, training) if isinstance(module, Dropout) else module(y_BTC)
        return x_BTC + y_BTC


class Encoder(nnx.Module):
    def __init__(self, spec: ViTSpec, tokens: int, dtype: DType) -> None:
        self.pos_embedding = TorchParam(jnp.zeros((1, tokens, spec.hidden), master_dtype(dtype)))
        self.dropout = Dropout(spec.dropout)
        self.layers = nnx.Dict(
            {f"encoder_layer_{layer}": EncoderBlock(spec, dtype) for layer in range(spec.layers)}
        )
        self.ln = LayerNorm(spec.hidden, dtype, epsilon=EPSILON)

    def __call__(self, x_BTC: jax.Array, training: bool) -> jax.Array:
        x_BTC = self.dropout(x_BTC + self.pos_embedding[...].astype(x_BTC.dtype), training)
        for layer in range(len(self.layers)):
            x_BTC = self.layers[f"encoder_layer_{layer}"](x_BTC, training)
        normed: jax.Array = self.ln(x_BTC)
        return normed


class VisionTransformer(nnx.Module):
    def __init__(self, spec: ViTSpec, tokens: int, channels: int, classes: int, dtype: DType) -> None:
        self.class_token = TorchParam(jnp.zeros((1, 1, spec.hidden), master_dtype(dtype)))
        self.conv_proj = PatchConvolution(channels, spec.hidden, spec.patch_size, dtype)
        self.encoder = Encoder(spec, tokens, dtype)
        self.heads = nnx.Dict({"head": linear(spec.hidden, classes, dtype)})

    def __call__(self, x_BHWC: jax.Array, training: bool) -> jax.Array:
        """x [B, H, W, C], normalised. Returns logits [B, K]."""
        patches_BHWC = self.conv_proj(x_BHWC)
        batch, _, _, features = patches_BHWC.shape
        first_BTC = jnp.broadcast_to(self.class_token[...].astype(patches_BHWC.dtype), (batch, 1, features))
        x_BTC = jnp.concatenate((first_BTC, patches_BHWC.reshape(batch, -1, features)), axis=1)
        # Only the class token leaves the encoder; a compiler drops what else the last norm would do.
        logits_BK: jax.Array = self.heads["head"](self.encoder(x_BTC, training)[:, 0])
        return logits_BK


def build(spec: ViTSpec, signature: Signature, dtype: DType) -> VisionTransformer:
    assert isinstance(signature.input, ImageInput)
    return VisionTransformer(spec, spec.tokens(signature), signature.input.channels, signature.outputs, dtype)
