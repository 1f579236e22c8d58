"""A bare PyTorch loop: preloaded tensors, permuted index batches, channels_last, fused optimizer."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def loop(
    model: str, images: np.ndarray, labels: np.ndarray, batch: int, mean: float, inverse_std: float
) -> Callable[[int], float]:
    """A function that trains so many steps more and returns their mean loss.

    images: uint8 [N, 28, 28, 1]; labels: int [N].
    """
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = NETWORKS[model]().to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    x = torch.tensor(images).permute(0, 3, 1, 2).to(device)
    y = torch.tensor(labels).long().to(device)

    def train(steps: int) -> float:
        total = torch.zeros((), device=device)
        done = 0
        while done < steps:
            order = torch.randperm(len(x), device=device)
            for rows in torch.split(order, batch)[: min(len(x) // batch, steps - done)]:
                inputs = x.index_select(0, rows).float().sub_(mean).mul_(inverse_std)
                loss = F.cross_entropy(network(inputs), y[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.detach()
                done += 1
        return total.item() / steps

    return train


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn() -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *stage(1, 32),
        *stage(32, 64),
        *stage(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


NETWORKS = {"mlp": mlp, "cnn": cnn}
