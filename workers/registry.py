"""Registered models: a name has versions, a version may have aliases.

A version number never comes to mean other weights: numbers go on counting after a delete.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.errors import InvalidInput, NotFound, suggest
from models.framework import Framework
from models.job import NAME_PATTERN
from models.signature import Signature, Task
from workers.artifacts import ArtifactStore
from workers.clock import moment, now
from workers.database import Database, upsert
from workers.identifiers import new_id
from workers.paging import Order, Page, page_of, unknown_cursor
from workers.references import discard
from workers.reports import FinishedModel
from workers.tables import AliasRow, JobRow, ModelRow, VersionRow

CHAMPION = "champion"


@dataclass(frozen=True)
class ModelVersion:
    """Weights and all that is known of them. `sha256` addresses the weights file in the artifact store."""

    name: str
    version: int
    framework: Framework
    architecture: str
    task: Task
    classes: tuple[str, ...] | None
    metrics: dict[str, Any]
    dataset_id: str
    dataset_name: str
    job_id: str
    sha256: str
    size_bytes: int
    parameters: int
    created_at: datetime
    aliases: tuple[str, ...]
    spec: dict[str, Any]
    signature: Signature


@dataclass(frozen=True)
class Model:
    """A name with at least one version; `versions` newest first."""

    name: str
    versions: tuple[ModelVersion, ...]
    aliases: dict[str, int]
    created_at: datetime

    @property
    def champion(self) -> ModelVersion:
        """What the bare name stands for: the version with that alias, else the newest."""
        return next((one for one in self.versions if CHAMPION in one.aliases), self.versions[0])


@dataclass(frozen=True)
class Deleted:
    """What went: the version numbers, and the aliases that pointed at them."""

    versions: tuple[int, ...]
    aliases: tuple[str, ...]


def resolve(db: Database, reference: str) -> ModelVersion:
    """The version meant by `name`, `name@3`, `name@alias` or a job's id. Raises NotFound, with the nearest name."""
    if reference.startswith("job_"):
        return _of_job(db, reference)
    name, at, which = reference.partition("@")
    model = get(db, name)
    if not at or which == CHAMPION:
        return model.champion
    number = model.aliases.get(which, which)
    if number == which and not which.isdecimal():
        known = {CHAMPION, *model.aliases, *(str(one.version) for one in model.versions)}
        raise NotFound(f"model {name!r} has no alias {which!r}. {suggest(which, known)}", pointer="/model")
    return _pick(model, number)


def get(db: Database, name: str) -> Model:
    """Raises NotFound, with the nearest name."""
    with db.reading() as session:
        return _model(session, name)


def version(db: Database, name: str, number: int) -> ModelVersion:
    """Raises NotFound."""
    return _pick(get(db, name), number)


def page(db: Database, limit: int = 20, after: str | None = None, order: Order = "desc") -> Page[Model]:
    """Models, the newest name first. `after` is a name. Raises InvalidInput."""
    alive = select(ModelRow).where(ModelRow.name.in_(select(VersionRow.name)))
    with db.reading() as session:
        cursor = None
        if after is not None:
            cursor = session.scalar(select(ModelRow.id).where(ModelRow.name == after))
            if cursor is None:
                raise unknown_cursor(after)
        rows = page_of(session, alive, ModelRow.id, limit=limit, after=cursor, order=order)
        models = _models(session, rows.data)
    return Page(tuple(models), rows.has_more)


def set_alias(db: Database, name: str, alias: str, number: int) -> ModelVersion:
    """Let `name@alias` mean this version from now on. Raises InvalidInput for a bad alias, NotFound."""
    if not re.fullmatch(NAME_PATTERN, alias) or alias.isdecimal():
        raise InvalidInput(
            f"{alias!r} cannot be an alias: use 1 to 64 of a-z, 0-9, '.', '_' and '-', begin with a letter or digit,"
            " and don't use a mere number.",
            pointer="/alias",
        )
    with db.session() as session:
        _hold(session, name)
        _pick(_model(session, name), number)
        row = upsert(session, AliasRow).values(name=name, alias=alias, version=number)
        key = ["name", "alias"]
        session.execute(row.on_conflict_do_update(index_elements=key, set_={"version": number}))
        return _pick(_model(session, name), number)


def delete_alias(db: Database, name: str, alias: str) -> None:
    """Raises NotFound."""
    with db.session() as session:
        model = _model(session, name)
        if alias not in model.aliases:
            hint = suggest(alias, model.aliases)
            raise NotFound(f"model {name!r} has no alias {alias!r}. {hint}", pointer="/alias")
        session.execute(delete(AliasRow).where(AliasRow.name == name, AliasRow.alias == alias))


def delete_version(db: Database, store: ArtifactStore, name: str, number: int) -> Deleted:
    """Delete one version with the aliases that point at it, and its weights. Raises NotFound."""
    with db.session() as session:
        _hold(session, name)
        going = (_pick(_model(session, name), number),)
        _delete(session, going)
    return _discard(db, store, going)


def delete_model(db: Database, store: ArtifactStore, name: str) -> Deleted:
    """Delete all versions of a model with their aliases and weights. Raises NotFound."""
    with db.session() as session:
        _hold(session, name)
        going = _model(session, name).versions
        _delete(session, going)
    return _discard(db, store, going)


def add_version(session: Session, job: JobRow, model: FinishedModel) -> ModelVersion:
    """Register what a job made as the next version of its name, in the transaction that ends the job."""
    row = VersionRow(
        name=job.name,
        version=_next_number(session, job.name),
        job_id=job.id,
        framework=job.framework,
        spec=job.spec["model"],
        signature=model.signature.model_dump(mode="json"),
        classes=None if model.classes is None else list(model.classes),
        metrics=job.metrics,
        dataset_id=job.dataset_id,
        dataset_name=job.dataset_name,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        created_at=now(),
    )
    session.add(row)
    session.flush()
    return _record(row, ())


def _next_number(session: Session, name: str) -> int:
    """Count up in one statement: two jobs that finish together get two numbers."""
    first = upsert(session, ModelRow).values(name=name, id=new_id("mdl"), last_version=1, created_at=now())
    counted = first.on_conflict_do_update(
        index_elements=["name"], set_={"last_version": ModelRow.last_version + 1}
    )
    return cast(int, session.execute(counted.returning(ModelRow.last_version)).scalar_one())


def _of_job(db: Database, job_id: str) -> ModelVersion:
    with db.reading() as session:
        row = session.scalar(select(VersionRow).where(VersionRow.job_id == job_id))
        if row is not None:
            return _pick(_model(session, row.name), row.version)
        job = session.get(JobRow, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id!r}.", pointer="/model")
    state = (
        "has no model any more: it was deleted" if job.status == "succeeded" else f"is {job.status}: no model"
    )
    raise NotFound(f"job {job_id} {state}.", pointer="/model")


def _model(session: Session, name: str) -> Model:
    row = session.scalar(
        select(ModelRow).where(ModelRow.name == name, ModelRow.name.in_(select(VersionRow.name)))
    )
    if row is None:
        hint = suggest(name, session.scalars(select(VersionRow.name).distinct()))
        raise NotFound(f"there is no model {name!r}. {hint}", pointer="/model")
    return _models(session, [row])[0]


def _models(session: Session, rows: Sequence[ModelRow]) -> list[Model]:
    """These names with their versions and aliases, in two queries."""
    names = [row.name for row in rows]
    newest_first = select(VersionRow).where(VersionRow.name.in_(names)).order_by(VersionRow.version.desc())
    versions = session.scalars(newest_first).all()
    aliases = session.scalars(select(AliasRow).where(AliasRow.name.in_(names)).order_by(AliasRow.alias)).all()
    return [
        _assembled(
            row,
            [one for one in versions if one.name == row.name],
            [one for one in aliases if one.name == row.name],
        )
        for row in rows
    ]


def _assembled(row: ModelRow, versions: Iterable[VersionRow], aliases: Sequence[AliasRow]) -> Model:
    return Model(
        name=row.name,
        versions=tuple(
            _record(one, tuple(alias.alias for alias in aliases if alias.version == one.version))
            for one in versions
        ),
        aliases={alias.alias: alias.version for alias in aliases},
        created_at=moment(row.created_at),
    )


def _pick(model: Model, number: int | str) -> ModelVersion:
    found = next((one for one in model.versions if str(one.version) == str(number)), None)
    if found is None:
        known = ", ".join(str(one.version) for one in reversed(model.versions))
        raise NotFound(f"model {model.name!r} has no version {number}. Known: {known}.", pointer="/version")
    return found


def _hold(session: Session, name: str) -> None:
    """Changes to one model's versions and aliases wait for each other."""
    session.execute(select(ModelRow.id).where(ModelRow.name == name).with_for_update())


def _delete(session: Session, versions: Sequence[ModelVersion]) -> None:
    numbers = [one.version for one in versions]
    session.execute(
        delete(VersionRow).where(VersionRow.name == versions[0].name, VersionRow.version.in_(numbers))
    )


def _discard(db: Database, store: ArtifactStore, versions: Sequence[ModelVersion]) -> Deleted:
    for sha256 in {one.sha256 for one in versions}:
        discard(db, store, sha256)
    aliases = tuple(alias for one in versions for alias in one.aliases)
    return Deleted(tuple(one.version for one in versions), aliases)


def _record(row: VersionRow, aliases: tuple[str, ...]) -> ModelVersion:
    signature = Signature.model_validate(row.signature)
    return ModelVersion(
        name=row.name,
        version=row.version,
        framework=cast(Framework, row.framework),
        architecture=row.spec["architecture"],
        task=signature.task,
        classes=None if row.classes is None else tuple(row.classes),
        metrics=row.metrics,
        dataset_id=row.dataset_id,
        dataset_name=row.dataset_name,
        job_id=row.job_id,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        parameters=row.parameters,
        created_at=moment(row.created_at),
        aliases=aliases,
        spec=row.spec,
        signature=signature,
    )
