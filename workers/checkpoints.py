"""Where checkpoints lie: `<root>/<job>/<fence>/<step>/`. The files are the truth; their rows are for people.

The parts of a prediction lie in `<root>/<job>/<fence>/`.
"""

from contextlib import suppress
from pathlib import Path
from shutil import rmtree


def folder(root: Path, job_id: str, fence: int) -> Path:
    """Where one attempt puts its checkpoints: no other attempt, not even a lost one, writes there."""
    return root / job_id / str(fence)


def attempts(root: Path, job_id: str) -> list[Path]:
    """The folders of all attempts at a job."""
    return sorted((root / job_id).glob("*"))


def forget(root: Path, job_id: str) -> None:
    """Delete all that attempts at a job have left."""
    rmtree(root / job_id, ignore_errors=True)


def newest_first(root: Path, job_id: str) -> list[Path]:
    """The complete checkpoints of a job, over all of its attempts. Their hashes are not checked here."""
    manifests = (root / job_id).glob("*/*/manifest.json")
    return sorted((manifest.parent for manifest in manifests), key=_position, reverse=True)


def thin(root: Path, job_id: str, fence: int, keep: int) -> None:
    """Delete what attempts up to this fence have left, but for the job's `keep` newest complete checkpoints.

    All of these attempts are over: a checkpoint that is not complete now never will be.
    """
    kept = newest_first(root, job_id)[:keep]
    for attempt in (root / job_id).glob("*"):
        if int(attempt.name) > fence:
            continue
        for checkpoint in attempt.iterdir():
            if checkpoint not in kept:
                rmtree(checkpoint, ignore_errors=True)
        with suppress(OSError):  # not empty
            attempt.rmdir()


def _position(checkpoint: Path) -> tuple[int, int]:
    return int(checkpoint.name), int(checkpoint.parent.name)
