"""The process that reads `.pth` files and knows torchvision: started here, so that nobody else imports torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from models.errors import InvalidInput, Unavailable

READING_S = 300.0
"""Seconds that reading one file may take by the clock."""
NEEDED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"),
)
"""Of our environment. The rest, keys and passwords among it, is nothing for a process that reads a stranger's file."""


def convert(source: Path, target: Path) -> None:
    """Write the tensors of a file of `torch.save` to `target` as safetensors.

    Raises:
        InvalidInput: the file holds more than tensors, is damaged, or needs more memory or time than it may.
    """
    try:
        answer = _answer("convert", str(source), str(target))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if "error" in answer:
        target.unlink(missing_ok=True)
        raise InvalidInput(f"The checkpoint cannot be read: {answer['error']}.", code="unreadable_checkpoint")


def locate(reference: str) -> str:
    """Where torchvision publishes these weights, e.g. of 'ResNet50_Weights.IMAGENET1K_V2'. Raises InvalidInput."""
    answer = _answer("locate", reference)
    if "error" in answer:
        raise InvalidInput(f"There are no such weights: {answer['error']}.", code="unknown_checkpoint")
    return str(answer["url"])


def _answer(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "models.checkpoints.torch", "--parent", str(os.getpid()), *arguments]
    try:
        ended = subprocess.run(
            command,
            env={name: os.environ[name] for name in NEEDED if name in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=READING_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidInput(
            f"The checkpoint could not be read in {READING_S:.0f} s.", code="unreadable_checkpoint"
        ) from None
    except OSError as error:
        raise Unavailable(f"The process that reads checkpoints could not be started: {error}") from error
    return _parsed(ended)


def _parsed(ended: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    lines = ended.stdout.splitlines()
    if ended.returncode == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    if ended.returncode < 0:  # by a signal: SIGKILL when memory ran out, SIGXCPU when time did
        raise InvalidInput(
            "The checkpoint cannot be read: the process that tried was ended"
            f" (signal {-ended.returncode}), for it needed too much memory or time.",
            code="unreadable_checkpoint",
        )
    words = ended.stderr.decode(errors="replace").strip().splitlines()
    raise Unavailable(
        f"The process that reads checkpoints failed: {words[-1] if words else 'it said nothing'}"
    )
