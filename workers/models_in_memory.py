"""Which registered models are, or ought to be, in the memory of a process that predicts."""

from collections.abc import Collection

from sqlalchemy import select

from models.errors import NotFound
from models.serving import ModelServing
from workers import registry
from workers.database import Database
from workers.registry import ModelVersion
from workers.tables import ModelRow, VersionRow


def residents(db: Database) -> list[ModelVersion]:
    """What the names alone mean of those models that are to be in memory before anybody asks."""
    with db.reading() as session:
        chosen = select(ModelRow.name, ModelRow.serving).where(
            ModelRow.enabled, ModelRow.serving.is_not(None)
        )
        names = [
            name
            for name, serving in session.execute(chosen.order_by(ModelRow.name))
            if ModelServing.model_validate(serving or {}).load != "on_demand"
        ]
    return [found for name in names if (found := _resolved(db, name)) is not None]


def _resolved(db: Database, name: str) -> ModelVersion | None:
    try:
        return registry.resolve(db, name)
    except NotFound:  # deleted meanwhile
        return None


def served(db: Database, hashes: Collection[str]) -> set[str]:
    """Those of these weights that some enabled model has."""
    found = (
        select(VersionRow.sha256)
        .join(ModelRow, ModelRow.name == VersionRow.name)
        .where(ModelRow.enabled, VersionRow.sha256.in_(hashes))
    )
    with db.reading() as session:
        return set(session.scalars(found.distinct()))


def named(db: Database, hashes: Collection[str]) -> list[tuple[str, int, str]]:
    """Name, version and hash of all versions that have these weights."""
    found = select(VersionRow.name, VersionRow.version, VersionRow.sha256).where(
        VersionRow.sha256.in_(hashes)
    )
    with db.reading() as session:
        return [(name, version, sha256) for name, version, sha256 in session.execute(found)]
