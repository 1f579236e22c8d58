"""The transformer encoder in PyTorch. Twin: jax.py.

Shape suffixes: B batch, T tokens, H heads, D features of a head, C features of a token, K classes.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; names are those of torch.nn.TransformerEncoderLayer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.signature import Signature
from models.transformer.spec import TransformerSpec


class SelfAttention(nn.Module):
    """torch.nn.MultiheadAttention of tokens among themselves, with its names."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * features))
        self.out_proj = nn.Linear(features, features)
        self.heads = heads

    def forward(self, x_BTC: Tensor, allowed_BT: Tensor) -> Tensor:
        projected = F.linear(x_BTC, self.in_proj_weight, self.in_proj_bias)
        q_BHTD, k_BHTD, v_BHTD = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in projected.chunk(3, dim=2)
        )
        y_BHTD = F.scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, attn_mask=allowed_BT[:, None, None, :]
        )
        y_BTC: Tensor = self.out_proj(y_BHTD.transpose(1, 2).flatten(2))
        return y_BTC


class EncoderLayer(nn.Module):
    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        self.self_attn = SelfAttention(spec.hidden, spec.heads)
        self.linear1 = nn.Linear(spec.hidden, spec.mlp)
        self.dropout = nn.Dropout(spec.dropout)
        self.linear2 = nn.Linear(spec.mlp, spec.hidden)
        self.norm1 = nn.LayerNorm(spec.hidden)
        self.norm2 = nn.LayerNorm(spec.hidden)
        self.dropout1 = nn.Dropout(spec.dropout)
        self.dropout2 = nn.Dropout(spec.dropout)

    def forward(self, x_BTC: Tensor, allowed_BT: Tensor) -> Tensor:
        x_BTC = x_BTC + self.dropout1(self.self_attn(self.norm1(x_BTC), allowed_BT))
        y_BTC = self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x_BTC)))))
        summed_BTC: Tensor = x_BTC + self.dropout2(y_BTC)
        return summed_BTC


class Transformer(nn.Module):
    def __init__(
        self, spec: TransformerSpec, vocabulary: int, length: int, padding: int, classes: int
    ) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, spec.hidden, padding_idx=padding)
        self.positions = nn.Embedding(length, spec.hidden)
        self.dropout = nn.Dropout(spec.dropout)
        self.layers = nn.ModuleList(EncoderLayer(spec) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.hidden)
        self.fc = nn.Linear(spec.hidden, classes)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """ids_BT, padded at the end -> logits_BK."""
        allowed_BT = ids_BT != self.padding
        x_BTC = self.dropout(self.embedding(ids_BT) + self.positions.weight[: ids_BT.shape[1]])
        for layer in self.layers:
            x_BTC = layer(x_BTC, allowed_BT)
        kept_BT1 = allowed_BT[..., None].to(x_BTC.dtype)
        mean_BC = (self.norm(x_BTC) * kept_BT1).sum(1) / kept_BT1.sum(1)
        logits_BK: Tensor = self.fc(mean_BC)
        return logits_BK


def build(spec: TransformerSpec, signature: Signature) -> Transformer:
    taken = spec.tokens(signature)
    return Transformer(spec, taken.vocabulary, taken.length, taken.padding, signature.outputs)
