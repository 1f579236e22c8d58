"""The PyTorch engine: see `models.engine.Engine`. Its counterpart is `models.frameworks.jax`."""

from collections.abc import Mapping

import torch

from models.engine import Definition, Device, Samples, SplitName
from models.frameworks.torch import optimizers
from models.frameworks.torch.devices import make_exact, memory_for, resolve
from models.frameworks.torch.freezing import freeze_all_but
from models.frameworks.torch.noise import Noise
from models.frameworks.torch.serving import TorchPredictor
from models.frameworks.torch.tensors import network_of
from models.frameworks.torch.training import TorchTrainer, master_dtype
from models.kept_files import KeptFiles
from models.serving import ServingPrecision
from models.state import Slots
from models.training import TrainingSpec
from models.weights import Weights


def warm_up(device: Device) -> None:
    """Set the process up and touch the device.

    Denormal numbers are flushed to zero in this thread and in the pool that it starts: they slow a CPU down
    eightfold in some networks. The optimizers' modules load on first use, which takes half a second.
    """
    torch.set_flush_denormal(True)
    parameter = torch.nn.Parameter(torch.ones(64, 64, device=resolve(device)))
    (parameter @ parameter).sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.AdamW([parameter], fused=True).step()


def trainer(
    definition: Definition,
    training: TrainingSpec,
    splits: Mapping[SplitName, Samples],
    weights: Weights,
    slots: Slots,
    step: int,
    *,
    device: Device = "auto",
) -> TorchTrainer:
    """See `models.engine.Engine.trainer`. Raises InvalidInput (no such device) and OutOfMemory."""
    place = resolve(device)
    make_exact()
    assert training.batch_size is not None
    assert training.optimizer is not None
    with memory_for(training.batch_size, place):
        network = network_of(definition, weights, master_dtype(training.precision), place)
        noise = Noise(network)
        head = definition.spec.head()
        if training.freeze == "backbone":
            freeze_all_but(network, head)
        optimizer = optimizers.build(training.optimizer, network, head, training.backbone_factor)
        optimizers.restore(optimizer, network, slots, step)
        return TorchTrainer(definition, training, splits, network, noise, optimizer, place)


def predictor(
    definition: Definition,
    weights: Weights,
    *,
    device: Device = "cpu",
    precision: ServingPrecision = "float32",
    kept: KeptFiles | None = None,
    cores: int | None = None,
) -> TorchPredictor:
    """See `models.engine.Server.predictor`. Raises InvalidInput (no such device)."""
    place = resolve(device)
    make_exact()
    return TorchPredictor(definition, weights, place, precision)
