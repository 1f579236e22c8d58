"""torch's optimizers, every hyperparameter passed explicitly, and their slots in canonical names."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.frameworks.torch.tensors import array_of
from models.state import Slots
from models.training import SGD, Adam, AdamW, OptimizerSpec

SLOTS = ("momentum_buffer", "exp_avg", "exp_avg_sq")


def build(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer; every step sets its learning rate anew."""
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


def restore(optimizer: Optimizer, network: nn.Module, slots: Slots, step: int) -> None:
    """Continue from the slots of `step` optimizer steps; without slots it starts afresh."""
    for name, parameter in network.named_parameters():
        state: dict[str, Tensor] = {
            slot: torch.empty_like(parameter, requires_grad=False).copy_(torch.tensor(arrays[name]))
            for slot, arrays in slots.items()
            if name in arrays
        }
        if "exp_avg" in state:  # Adam corrects its averages by the number of steps they span
            state["step"] = torch.tensor(float(step), dtype=torch.float32, device=parameter.device)
        if state:
            optimizer.state[parameter] = state


def slots_of(optimizer: Optimizer, network: nn.Module) -> Slots:
    """Copies of the slots, `{"exp_avg": {"fc.weight": ...}}`; none before the first step."""
    slots: Slots = {}
    for name, parameter in network.named_parameters():
        for slot, tensor in optimizer.state[parameter].items():
            if slot in SLOTS and tensor is not None:
                slots.setdefault(slot, {})[name] = array_of(tensor)
    return slots
