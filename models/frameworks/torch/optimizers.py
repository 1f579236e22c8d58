"""torch's optimizers, every hyperparameter passed explicitly, and their slots in canonical names."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.frameworks.torch.tensors import array_of
from models.state import Slots
from models.training import SGD, Adam, AdamW, OptimizerSpec

SLOTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")


def build(
    spec: OptimizerSpec, network: nn.Module, head: tuple[str, ...], backbone_factor: float
) -> Optimizer:
    """The optimizer of the parameters that learn; `schedule` sets its learning rates anew for every step. `head`:
    prefixes of the names of the last layers; the others learn at `backbone_factor` times their rate."""
    parameters = _groups(network, head, backbone_factor)
    match spec:
        case SGD():
            return torch.optim.SGD(
                parameters,
                lr=spec.learning_rate,
                momentum=spec.momentum,
                dampening=0.0,
                weight_decay=spec.weight_decay,
                nesterov=spec.nesterov,
                fused=True,
            )
        case Adam() | AdamW():
            kind = torch.optim.Adam if isinstance(spec, Adam) else torch.optim.AdamW
            return kind(
                parameters,
                lr=spec.learning_rate,
                betas=spec.betas,
                eps=spec.epsilon,
                weight_decay=spec.weight_decay,
                amsgrad=False,
                fused=True,
            )


def _groups(network: nn.Module, head: tuple[str, ...], backbone_factor: float) -> list[dict[str, Any]]:
    learning = [
        (name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad
    ]
    if backbone_factor == 1:
        return [{"params": [parameter for _, parameter in learning], "factor": 1.0}]
    groups = [
        {"params": [one for name, one in learning if name.startswith(head) is in_head], "factor": factor}
        for in_head, factor in ((False, backbone_factor), (True, 1.0))
    ]
    return [group for group in groups if group["params"]]


def schedule(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the learning rates of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]


def restore(optimizer: Optimizer, network: nn.Module, slots: Slots, step: int) -> None:
    """Continue from the slots of `step` optimizer steps; without slots it starts afresh.

    A parameter that was frozen until now has none and starts from zeros, but with the others' number of steps, as in
    JAX: its first updates are small, until its averages have filled.
    """
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        state: dict[str, Tensor] = {
            slot: _like(parameter, arrays.get(name)) for slot, arrays in slots.items()
        }
        if "exp_avg" in state:  # Adam corrects its averages by the number of steps they span
            state["step"] = torch.tensor(float(step), dtype=torch.float32, device=parameter.device)
        if state:
            optimizer.state[parameter] = state


def slots_of(optimizer: Optimizer, network: nn.Module) -> Slots:
    """Copies of the slots, `{"exp_avg": {"fc.weight": ...}}`; none before the first step."""
    slots: Slots = {}
    for name, parameter in network.named_parameters():
        for slot, tensor in optimizer.state.get(parameter, {}).items():
            if slot in SLOTS and tensor is not None:
                slots.setdefault(slot, {})[name] = array_of(tensor)
    return slots


def _like(parameter: nn.Parameter, array: np.ndarray | None) -> Tensor:
    """The array in the parameter's memory layout and dtype; zeros for None."""
    tensor = torch.zeros_like(parameter, requires_grad=False)
    return tensor if array is None else tensor.copy_(torch.tensor(array))
