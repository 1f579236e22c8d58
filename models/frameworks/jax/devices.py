"""Where JAX computes and how exactly, and what it says when the memory there runs out."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax

from models.engine import Device
from models.errors import InvalidInput, OutOfMemory, suggest
from models.training import Precision


def resolve(device: Device) -> jax.Device:
    """The device that is meant; 'auto' is a GPU if JAX finds one. Raises InvalidInput."""
    if device not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"There is no device {device!r}. {suggest(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cpu":
        return jax.devices("cpu")[0]
    if jax.default_backend() == "gpu":
        return jax.devices("gpu")[0]
    if device == "auto":
        return jax.devices("cpu")[0]
    raise InvalidInput(
        f"The device 'cuda' was asked for, but jax {jax.__version__} finds no CUDA GPU on this machine."
        " Use 'auto' or 'cpu', or install jax's CUDA build and a driver for the GPU."
    )


def describe(device: jax.Device) -> str:
    """For people: 'cpu' or 'cuda:0 (NVIDIA H100)'."""
    return "cpu" if device.platform == "cpu" else f"cuda:{device.id} ({device.device_kind})"


@contextmanager
def scope(device: jax.Device, precision: Precision) -> Iterator[None]:
    """Everything inside happens on this device, with 64-bit types only for float64.

    All three settings hold for this thread and this block, so that jobs and models of different precision
    live in one process. A GPU would multiply float32 matrices as TF32, which ends the agreement with torch.
    """
    with ExitStack() as settings:
        settings.enter_context(jax.enable_x64(precision == "float64"))
        settings.enter_context(jax.default_device(device))
        if device.platform != "cpu" and precision != "bfloat16":
            settings.enter_context(jax.default_matmul_precision("highest"))
        yield


@contextmanager
def memory_for(batch_size: int, device: jax.Device) -> Iterator[None]:
    """Turn an allocation failure inside into OutOfMemory, which suggests half of this batch size."""
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory(batch_size, device) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise _out_of_memory(batch_size, device) from error


def _out_of_memory(batch_size: int, device: jax.Device) -> OutOfMemory:
    advice = f"try {batch_size // 2}" if batch_size > 1 else "use a smaller network"
    return OutOfMemory(
        f"{describe(device)} has too little memory for batch_size {batch_size}; {advice}.",
        pointer="/training/batch_size",
    )


CPU_BUDGET_BYTES = 256 << 20
"""On a CPU the device's copy is a second one in the same memory, which larger sets may not have; nor are they slower
without it."""


def budget_bytes(device: jax.Device) -> float:
    """How many bytes of samples may live on the device: half of a GPU's memory, little of a CPU's."""
    memory = device.memory_stats()
    return memory["bytes_limit"] / 2 if memory else CPU_BUDGET_BYTES
