"""What this process computes with: the frameworks' packages, and Tandem's own networks. What is kept over restarts is
kept under it."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "transformers", "jax", "jaxlib", "flax", "openvino")


@cache
def makers() -> str:
    """A hash of the packages' versions and of this folder's code, in hexadecimal. A process asks for it when it starts:
    later on, other files may lie where it has imported from."""
    found = hashlib.sha256("\n".join(map(_version, PACKAGES)).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"
