"""The JAX engine (`models.engine.Engine`): Flax NNX networks as pure functions under plain `jax.jit`."""

from collections.abc import Mapping

from models.engine import Definition, Device, Samples, SplitName
from models.frameworks.jax import devices
from models.frameworks.jax.serving import JaxPredictor
from models.frameworks.jax.training import JaxTrainer
from models.frameworks.jax.warming import practise
from models.kept_files import KeptFiles
from models.serving import ServingPrecision
from models.state import Slots
from models.training import TrainingSpec
from models.weights import Weights


def warm_up(device: Device) -> None:
    """See `models.engine.Engine.warm_up`."""
    practise(devices.resolve(device))


def trainer(
    definition: Definition,
    training: TrainingSpec,
    splits: Mapping[SplitName, Samples],
    weights: Weights,
    slots: Slots,
    step: int,
    *,
    device: Device = "auto",
) -> JaxTrainer:
    """See `models.engine.Engine.trainer`."""
    chosen = devices.resolve(device)
    budget = devices.budget_bytes(chosen)
    assert training.batch_size is not None
    with devices.memory_for(training.batch_size, chosen):
        return JaxTrainer(definition, training, splits, weights, slots, step, chosen, budget_bytes=budget)


def predictor(
    definition: Definition,
    weights: Weights,
    *,
    device: Device = "cpu",
    precision: ServingPrecision = "float32",
    kept: KeptFiles | None = None,
    cores: int | None = None,
) -> JaxPredictor:
    """See `models.engine.Server.predictor`."""
    return JaxPredictor(definition, weights, devices.resolve(device), precision)
