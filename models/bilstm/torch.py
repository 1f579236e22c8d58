"""The bidirectional LSTM in PyTorch. Twin: jax.py.

Shape suffixes: B batch, T tokens, C features, K classes.
Source: Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093; names and gates are those of torch.nn.LSTM.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # torch has no public name for it yet

from models.bilstm.spec import BiLSTMSpec
from models.signature import Signature


class BiLSTM(nn.Module):
    def __init__(self, spec: BiLSTMSpec, vocabulary: int, padding: int, classes: int) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, spec.embedding, padding_idx=padding)
        self.embedding_dropout = nn.Dropout(spec.embedding_dropout)
        self.lstm = nn.LSTM(spec.embedding, spec.hidden, spec.layers, bidirectional=True, batch_first=True)
        self.between = nn.ModuleList(nn.Dropout(spec.dropout) for _ in range(spec.layers - 1))
        self.head_dropout = nn.Dropout(spec.dropout)
        self.fc = nn.Linear(4 * spec.hidden, classes)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """ids_BT, padded at the end -> logits_BK."""
        allowed_BT = ids_BT != self.padding
        lengths_B = allowed_BT.sum(1)
        x_BTC = self.embedding_dropout(self.embedding(ids_BT))
        x_BTC = read_both_ways(self.lstm, 0, x_BTC, lengths_B)
        for layer, dropout in enumerate(self.between, start=1):
            x_BTC = read_both_ways(self.lstm, layer, dropout(x_BTC), lengths_B)
        pooled_BC = torch.cat((largest_of(x_BTC, allowed_BT), mean_of(x_BTC, allowed_BT)), dim=1)
        logits_BK: Tensor = self.fc(self.head_dropout(pooled_BC))
        return logits_BK


def read_both_ways(lstm: nn.LSTM, layer: int, x_BTC: Tensor, lengths_B: Tensor) -> Tensor:
    """This layer of `lstm` as if each text ended where it does.

    Its second direction would begin with the padding. Reading each text backwards instead needs no packed sequences,
    which neither torch.export nor ONNX has.
    """
    ahead_BTC = _one_way(lstm, f"l{layer}", x_BTC)
    behind_BTC = _one_way(lstm, f"l{layer}_reverse", backwards(x_BTC, lengths_B))
    return torch.cat((ahead_BTC, backwards(behind_BTC, lengths_B)), dim=2)


def backwards(x_BTC: Tensor, lengths_B: Tensor) -> Tensor:
    """Each text from its last token to its first; what lies behind it stays where it is. Its own inverse."""
    places_T = torch.arange(x_BTC.shape[1], device=x_BTC.device)
    last_BT = lengths_B[:, None] - 1 - places_T
    index_BT = torch.where(last_BT >= 0, last_BT, places_T)
    if torch.compiler.is_exporting():
        return x_BTC.gather(1, index_BT[..., None].expand(-1, -1, x_BTC.shape[2]))
    first_B = torch.arange(x_BTC.shape[0], device=x_BTC.device) * x_BTC.shape[1]
    rows = (first_B[:, None] + index_BT).flatten()
    if not torch.is_grad_enabled():
        return _taken(x_BTC, rows)
    turned_BTC: Tensor = _Turn.apply(x_BTC, rows)
    return turned_BTC


class _Turn(torch.autograd.Function):
    """Tokens in another order that is its own inverse, and so its own gradient: that of any index would add up rows,
    though no two ever meet. Whole rows are copied, where `gather` would look up each feature."""

    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return _taken(x_BTC, rows)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return _taken(slopes[0], rows), None


def _taken(x_BTC: Tensor, rows: Tensor) -> Tensor:
    return x_BTC.flatten(0, 1).index_select(0, rows).view(x_BTC.shape)


def largest_of(x_BTC: Tensor, allowed_BT: Tensor) -> Tensor:
    return x_BTC.masked_fill(~allowed_BT[..., None], -torch.inf).amax(1)


def mean_of(x_BTC: Tensor, allowed_BT: Tensor) -> Tensor:
    kept_BT1 = allowed_BT[..., None].to(x_BTC.dtype)
    return (x_BTC * kept_BT1).sum(1) / kept_BT1.sum(1)


def _one_way(lstm: nn.LSTM, suffix: str, x_BTC: Tensor) -> Tensor:
    """The hidden features after every token of one direction of one layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(lstm, f"{name}_{suffix}") for name in names]
    if torch.compiler.is_exporting():
        return _scanned(x_BTC, *weights)
    start = x_BTC.new_zeros(1, x_BTC.shape[0], lstm.hidden_size)
    # Input, state, weights; with biases, one layer, no dropout, training, one direction, batch first.
    found: tuple[Tensor, Tensor, Tensor] = torch.lstm(
        x_BTC, (start, start), weights, True, 1, 0.0, lstm.training, False, True
    )
    return found[0]


def _scanned(x_BTC: Tensor, input_w: Tensor, hidden_w: Tensor, input_b: Tensor, hidden_b: Tensor) -> Tensor:
    """The same as a loop that a graph can hold: torch.export would write torch.lstm out for one number of tokens.

    Gates are input, forget, cell, output, as torch has them.
    """
    gates_TBG = (x_BTC @ input_w.T + input_b + hidden_b).transpose(0, 1)
    nothing_BH = x_BTC.new_zeros(x_BTC.shape[0], hidden_w.shape[1])

    def step(before: tuple[Tensor, Tensor], gates_BG: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        hidden_BH, cell_BH = before
        put_BH, keep_BH, new_BH, shown_BH = (gates_BG + hidden_BH @ hidden_w.T).chunk(4, dim=1)
        cell_BH = keep_BH.sigmoid() * cell_BH + put_BH.sigmoid() * new_BH.tanh()
        hidden_BH = shown_BH.sigmoid() * cell_BH.tanh()
        return (hidden_BH, cell_BH), hidden_BH.clone()  # what is carried may not be given out too

    hidden_TBH: Tensor = scan(step, (nothing_BH, nothing_BH.clone()), gates_TBG)[1]
    return hidden_TBH.transpose(0, 1)


def build(spec: BiLSTMSpec, signature: Signature) -> BiLSTM:
    taken = spec.tokens(signature)
    return BiLSTM(spec, taken.vocabulary, taken.padding, signature.outputs)
