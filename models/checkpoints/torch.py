"""Reads what `torch.save` wrote, in a process of its own with limits, and asks torchvision where its weights are.

`python -m models.checkpoints.torch convert FILE TARGET` or `... locate ResNet50_Weights.IMAGENET1K_V2`. The answer is
one line of JSON on standard output: `{"error": ...}`, with one sentence, or what was asked for. A `.pth` is a pickle;
`weights_only` lets it hold tensors and plain containers and nothing that would run.
"""

import argparse
import ctypes
import json
import os
import pickle
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import tensor_files

WRAPPERS = ("state_dict", "model", "model_state_dict")
ROOM_BYTES = 1 << 30
"""What reading may take besides a few times the file."""
CPU_S = 120
PR_SET_PDEATHSIG = 1
HALVES = (torch.float16, torch.bfloat16)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)
READ = (*HALVES, torch.float32, torch.float64, *INTEGERS)
"""The kinds of numbers that are read; others are parts of quantised networks, or complex."""


class Refused(Exception):
    """The file cannot be used; the message is for the one who sent it."""


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write the file's tensors as safetensors; half precision becomes float32."""
    size = source.stat().st_size
    _limit(size)
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
        tensors = _tensors(found, 8 * size)
        tensor_files.write(tensors, target, {})
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes torch raise nearly every kind
        raise Refused(_reason(error)) from None
    return {"tensors": len(tensors)}


def locate(reference: str) -> dict[str, Any]:
    """The address of one of torchvision's published checkpoints."""
    from torchvision.models import get_weight

    try:
        return {"url": get_weight(reference).url}
    except (ValueError, AttributeError, KeyError):
        raise Refused(f"torchvision knows no weights named {reference!r}") from None


def _tensors(found: object, most_bytes: int) -> dict[str, np.ndarray]:
    while isinstance(found, Mapping) and (inner := _wrapped(found)) is not None:
        found = inner
    if not isinstance(found, Mapping):
        raise Refused(f"what it holds is {_kind(found)}, not the tensors of a state_dict")
    if not found:
        raise Refused("it holds no tensors")
    for name, value in found.items():
        _check(name, value)
    if sum(prod(value.shape) * 4 for value in found.values()) > most_bytes:
        raise Refused("its tensors claim far more numbers than it holds")
    return {name: _array(value) for name, value in found.items()}


def _check(name: object, value: object) -> None:
    short = repr(str(name)[:100])
    if not isinstance(name, str):
        raise Refused(f"its key {short} is {_kind(name)}, not a tensor's name")
    if not isinstance(value, torch.Tensor):
        raise Refused(f"its entry {short} is {_kind(value)}, not a tensor")
    if value.is_meta:
        raise Refused(f"its tensor {short} has a shape, but no numbers")
    if value.dtype not in READ:
        raise Refused(
            f"its tensor {short} holds {str(value.dtype).removeprefix('torch.')}, which is not read"
        )


def _wrapped(found: Mapping[Any, Any]) -> Any:
    """What a training script put its state_dict into, next to the epoch and the optimizer."""
    return next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)


def _array(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    if plain.dtype in HALVES:
        plain = plain.float()
    # A negated view of another tensor is saved as that tensor and a flag.
    return plain.resolve_neg().contiguous().numpy()


def _limit(size: int) -> None:
    """Address space, processor time and the size of what is written. What torch itself has mapped does not count."""
    with suppress(ValueError, OSError):  # some systems do not limit the address space
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _set(resource.RLIMIT_AS, mapped + 6 * size + ROOM_BYTES)
    _set(resource.RLIMIT_CPU, CPU_S)
    _set(resource.RLIMIT_FSIZE, 8 * size + (1 << 20))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails with an error that can be told


def _set(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _reason(error: Exception) -> str:
    """What is wrong with a file that made torch raise this; its own words are long, and name files of ours."""
    message = str(error)
    if isinstance(error, pickle.UnpicklingError) and ("GLOBAL" in message or "safe_globals" in message):
        return (
            "it holds more than tensors (weights_only refuses it: a pickle may run any program). Save"
            " `model.state_dict()`, not the model"
        )
    if "TorchScript" in message:
        return "it is a TorchScript program. Save `model.state_dict()` with torch.save instead"
    if isinstance(error, MemoryError) or "can't allocate memory" in message:
        return "it needs more memory than its size allows"
    if isinstance(error, OSError):
        return f"reading it failed ({error.strerror})"
    return "it is damaged or not a file of torch.save"


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, prctl(2); exit at once if it already has.

    It is the end of the parent's thread that counts: the one that started us waits for our answer.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that wanted the answer has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parent", type=int, help="The process to end with.")
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert")
    converting.add_argument("source", type=Path)
    converting.add_argument("target", type=Path)
    commands.add_parser("locate").add_argument("reference")
    asked = parser.parse_args()
    if asked.parent is not None:
        _end_with(asked.parent)
    torch.set_num_threads(1)
    try:
        answer = (
            convert(asked.source, asked.target) if asked.command == "convert" else locate(asked.reference)
        )
    except Refused as refused:
        answer = {"error": str(refused)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
