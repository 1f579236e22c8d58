"""The multilayer perceptron in PyTorch. Twin: jax.py.

Shape suffixes: B batch, C channels, H height, W width, F features, K outputs.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.mlp.spec import MLPSpec
from models.signature import Signature

Activation = Callable[[Tensor], Tensor]
# torch's default GELU is the exact one, x * Phi(x) by erf. Source: https://arxiv.org/abs/1606.08415
ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}


class MLP(nn.Module):
    def __init__(self, widths: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """x_BCHW or x_BF, normalised -> logits_BK."""
        x = x.flatten(1)
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        logits_BK: Tensor = last(x)
        return logits_BK


def build(spec: MLPSpec, signature: Signature) -> MLP:
    """The network; its `state_dict` has the names that the spec declares."""
    return MLP(spec.widths(signature), ACTIVATIONS[spec.activation])
