"""Reads what `torch.save` wrote, in a process of its own with limits, and asks torchvision where its weights are.

`python -m models.checkpoints.torch convert FILE TARGET` or `... locate ResNet50_Weights.IMAGENET1K_V2`. The answer is
one line of JSON on standard output: `{"error": ...}`, with one sentence, or what was asked for. A `.pth` is a pickle;
`weights_only` lets it hold tensors and plain containers and nothing that would run.
"""

import argparse
import json
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
    except pickle.UnpicklingError as error:
        raise Refused(_refusal(str(error))) from None
    except (MemoryError, OSError) as error:
        raise Refused(f"it needs more room than its size allows ({error})") from None
    except Exception as error:  # noqa: BLE001 - a damaged file makes torch raise nearly every kind
        raise Refused(f"it is damaged or not a file of torch.save ({_first_line(error)})") from None
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
    if not isinstance(found, Mapping) or not found:
        raise Refused(f"it holds {_kind(found)}, not the tensors of a state_dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Refused(f"its entry {str(name)[:100]!r} is {_kind(value)}, not a tensor")
    if sum(prod(value.shape) * 4 for value in found.values()) > most_bytes:
        raise Refused("its tensors claim far more numbers than it holds")
    return {name: _array(value) for name, value in found.items()}


def _wrapped(found: Mapping[Any, Any]) -> Any:
    """What a training script put its state_dict into, next to the epoch and the optimizer."""
    return next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)


def _array(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    if plain.dtype in (torch.bfloat16, torch.float16):
        plain = plain.float()
    return plain.contiguous().numpy()


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


def _refusal(message: str) -> str:
    if "Unsupported" in message or "GLOBAL" in message or "weights_only" in message.lower():
        return (
            "it holds more than tensors (weights_only refuses it: a pickle may run any program). Save"
            " `model.state_dict()`, not the model"
        )
    return "it is damaged or not a file of torch.save"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert")
    converting.add_argument("source", type=Path)
    converting.add_argument("target", type=Path)
    commands.add_parser("locate").add_argument("reference")
    asked = parser.parse_args()
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
