"""The small convolutional network in PyTorch. Twin: jax.py.

Shape suffixes: B batch, C channels, H height, W width, K classes.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from models.cnn.spec import CNNSpec
from models.signature import Signature


class Stage(nn.Module):
    """Two convolutions, then half the height and width (an odd last row or column is dropped)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        x_BCHW = F.relu(self.bn2(self.conv2(x_BCHW)), inplace=True)
        return F.max_pool2d(x_BCHW, 2)


class CNN(nn.Module):
    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(inputs, outputs) for inputs, outputs in pairwise(channels))
        self.fc = nn.Linear(channels[-1], classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """x_BCHW, normalised -> logits_BK."""
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
        logits_BK: Tensor = self.fc(x_BCHW.mean((2, 3)))
        return logits_BK


def build(spec: CNNSpec, signature: Signature) -> CNN:
    """The network; its `state_dict` has the names that the spec declares."""
    return CNN(spec.channels(signature), signature.outputs)
