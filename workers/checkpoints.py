"""Where checkpoints lie: `<root>/<job>/<fence>/<step>/`. The files are the truth; their rows are for people."""

from pathlib import Path


def folder(root: Path, job_id: str, fence: int) -> Path:
    """Where one attempt puts its checkpoints: no other attempt, not even a lost one, writes there."""
    return root / job_id / str(fence)


def newest_first(root: Path, job_id: str) -> list[Path]:
    """The complete checkpoints of a job, over all of its attempts. Their hashes are not checked here."""
    manifests = (root / job_id).glob("*/*/manifest.json")
    return sorted((manifest.parent for manifest in manifests), key=_position, reverse=True)


def _position(checkpoint: Path) -> tuple[int, int]:
    return int(checkpoint.name), int(checkpoint.parent.name)
