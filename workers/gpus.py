"""The GPUs that a process may use."""

import os
import subprocess


def visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES: those in it where it is set, else all that the driver has; none without one."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.split()
