"""Where torch computes, and what it says when the memory there runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.engine import Device
from models.errors import InvalidInput, OutOfMemory, suggest

# The CPU allocator, oneDNN and the C++ library each say it in their own words, all as RuntimeError.
EXHAUSTED = ("can't allocate memory", "could not create a memory", "bad_alloc", "out of memory")


def resolve(device: Device) -> torch.device:
    """The device that is meant; 'auto' is a GPU if torch finds one. Raises InvalidInput."""
    if device not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"There is no device {device!r}. {suggest(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(
            f"The device 'cuda' was asked for, but torch {torch.__version__} finds no CUDA GPU on this"
            " machine. Use 'auto' or 'cpu', or install a torch build and driver for the GPU."
        )
    return torch.device("cuda:0" if device != "cpu" and torch.cuda.is_available() else "cpu")


def describe(device: torch.device) -> str:
    """For people: 'cpu' or 'cuda:0 (NVIDIA H100)'."""
    return str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"


def make_exact() -> None:
    """Full float32 products and the same kernels in every run.

    TF32 would end the agreement with JAX, and cuDNN's benchmark picks kernels by timing them, so that a
    resumed run would differ from the uninterrupted one in its last bits.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def memory_for(batch_size: int, device: torch.device) -> Iterator[None]:
    """Turn an allocation failure inside into OutOfMemory, which suggests half of this batch size."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(batch_size, device) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in EXHAUSTED):
            raise
        raise _out_of_memory(batch_size, device) from error


def _out_of_memory(batch_size: int, device: torch.device) -> OutOfMemory:
    advice = f"try {batch_size // 2}" if batch_size > 1 else "use a smaller network"
    return OutOfMemory(
        f"{describe(device)} has too little memory for batch_size {batch_size}; {advice}.",
        pointer="/training/batch_size",
    )
