"""DistilBERT in PyTorch: transformers' own modules. Twin: jax.py.

Shape suffixes: B batch, T tokens, H heads, D features of a head, C features of a token, K classes.
Source: Sanh et al. 2019, https://arxiv.org/abs/1910.01108; code and names are transformers'.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import models.frameworks.torch.vision  # noqa: F401 - transformers asks for the compiler; see there

# isort: split
from transformers import AttentionInterface, DistilBertConfig, DistilBertForSequenceClassification

from models.distilbert.spec import DistilBERTSpec
from models.signature import Signature

ATTENTION = "tandem"


def attention(
    module: Any,
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    allowed_B11T: Tensor,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers' attention module asks for, [B, T, H, D]. module: that module, with its `dropout`.

    Dropout goes through the module's own `dropout`, which depends on the step alone (see models.noise); transformers
    would draw it from torch's generator.
    """
    if module.training and module.dropout.p:
        scores = (q_BHTD * scaling) @ k_BHTD.transpose(2, 3)
        weights = scores.masked_fill(~allowed_B11T, -torch.inf).softmax(-1)
        y_BHTD = module.dropout(weights) @ v_BHTD
    else:
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, attn_mask=allowed_B11T, scale=scaling)
    return y_BHTD.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention)


class DistilBERT(DistilBertForSequenceClassification):  # type: ignore[no-untyped-call]
    """transformers' network, called with token ids alone."""

    def forward(self, ids_BT: Tensor) -> Tensor:
        """ids_BT, padded at the end -> logits_BK."""
        allowed_BT = ids_BT.ne(self.config.pad_token_id)  # type: ignore[arg-type]  # build() gives one
        places_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        x_BTC = self.distilbert.embeddings(ids_BT, position_ids=places_1T)
        x_BTC = self.distilbert.transformer(x_BTC, allowed_BT[:, None, None, :]).last_hidden_state
        first_BC = F.relu(self.pre_classifier(x_BTC[:, 0]))
        logits_BK: Tensor = self.classifier(self.dropout(first_BC))
        return logits_BK


def build(spec: DistilBERTSpec, signature: Signature) -> nn.Module:
    taken = spec.tokens(signature)
    network: nn.Module = DistilBERT(
        DistilBertConfig(  # type: ignore[call-arg]  # it passes the last two on
            vocab_size=taken.vocabulary,
            pad_token_id=taken.padding,
            max_position_embeddings=spec.positions,
            n_layers=spec.layers,
            n_heads=spec.heads,
            dim=spec.hidden,
            hidden_dim=spec.mlp,
            dropout=spec.dropout,
            attention_dropout=spec.attention_dropout,
            seq_classif_dropout=spec.classifier_dropout,
            num_labels=signature.outputs,
            attn_implementation=ATTENTION,
        )
    )
    return network
