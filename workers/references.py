"""Which stored files are still needed: those that a row names."""

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.tables import DatasetRow, JobRow, VersionRow

JUST_STORED_S = 60.0
"""A file stored so recently may be about to be named by a row: whoever stores a file freshens its age."""


def discard(db: Database, store: ArtifactStore, sha256: str) -> bool:
    """Delete this file unless a row still names it; whether it is gone. What is too fresh is left to `sweep`."""
    with db.reading() as session:
        needed = _is_named(session, sha256)
    return not needed and store.delete(sha256, JUST_STORED_S)


def sweep(db: Database, store: ArtifactStore, idle_s: float = 3600) -> list[str]:
    """Delete every file that no row names and that was stored `idle_s` seconds ago or longer; their hashes.

    These are left by workers that died between storing their result and saying so, or were refused.
    """
    store.clean(idle_s)
    return [sha256 for sha256 in store.addresses(idle_s) if discard(db, store, sha256)]


def _is_named(session: Session, sha256: str) -> bool:
    # The weights that a training job made are its version's, and go with it.
    result = (JobRow.kind == "prediction", JobRow.artifact_sha256 == sha256)
    running = (JobRow.status.in_(["queued", "running"]), JobRow.dataset_sha256 == sha256)
    return any(
        session.scalar(select(exists().where(*condition)))
        for condition in ((VersionRow.sha256 == sha256,), (DatasetRow.sha256 == sha256,), result, running)
    )
