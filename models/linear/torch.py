"""Linear and logistic regression in PyTorch. Twin: jax.py.

Shape suffixes: B batch, C channels, H height, W width, F features, K outputs.
"""

from math import prod

from torch import Tensor, nn

from models.linear.spec import LinearSpec
from models.signature import Signature


class Linear(nn.Module):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x_BCHW or x_BF, normalised -> logits_BK."""
        logits_BK: Tensor = self.linear(x.flatten(1))
        return logits_BK


def build(spec: LinearSpec, signature: Signature) -> Linear:
    """The network; its `state_dict` has the names that the spec declares."""
    return Linear(prod(signature.input.shape), signature.outputs)
