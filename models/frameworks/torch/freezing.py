"""Parts of a network that stay as they are."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_all_but(network: nn.Module, head: tuple[str, ...]) -> None:
    """Nothing outside the head learns from now on. `head`: prefixes of the names that do."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(head))


def train(network: nn.Module) -> None:
    """Training mode, but for BatchNorm that does not learn: its statistics would go on changing."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
            module.eval()
