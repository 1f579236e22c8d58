"""Registered models: a name has versions, a version may have aliases.

A version number never comes to mean other weights: numbers go on counting after a delete.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Select, and_, delete, exists, select, update
from sqlalchemy.orm import Session

from models.architecture import Spec
from models.errors import InvalidInput, NotFound, suggest
from models.job import NAME_PATTERN
from models.serving import ModelServing, Serving
from workers import idempotency as idempotency_keys
from workers import model_records
from workers.artifacts import ArtifactStore
from workers.clock import now
from workers.database import Database, upsert
from workers.idempotency import IdempotencyClaim
from workers.identifiers import is_id, new_id
from workers.model_records import CHAMPION, Deleted, Model, ModelVersion
from workers.paging import Order, Page, page_of, unknown_cursor
from workers.references import discard
from workers.reports import FinishedModel
from workers.tables import AliasRow, JobRow, ModelRow, VersionRow
from workers.watch import announce

__all__ = [
    "CHAMPION",
    "Deleted",
    "Model",
    "ModelVersion",
    "add_imported",
    "add_version",
    "check_name",
    "delete_alias",
    "delete_model",
    "delete_version",
    "every",
    "get",
    "is_there",
    "page",
    "resolve",
    "set_alias",
    "set_enabled",
    "set_model_serving",
    "set_serving",
    "version",
]

LONGEST_NUMBER = 18
"""Digits that surely fit the database's integers."""


def resolve(db: Database, reference: str) -> ModelVersion:
    """The version meant by `name`, `name@3`, `name@alias` or a job's id. Raises NotFound, with the nearest name.

    Predictions ask, so this reads a few rows, however many versions there are.
    """
    with db.reading() as session:
        row = session.scalar(_meant(reference))
        if row is None:
            raise _unknown(session, reference)
        model = session.scalars(select(ModelRow).where(ModelRow.name == row.name)).one()
        aliases = select(AliasRow.alias).where(AliasRow.name == row.name, AliasRow.version == row.version)
        return model_records.version(row, tuple(session.scalars(aliases.order_by(AliasRow.alias))), model)


def get(db: Database, name: str) -> Model:
    """Raises NotFound, with the nearest name."""
    with db.reading() as session:
        return _model(session, name)


def version(db: Database, name: str, number: int) -> ModelVersion:
    """Raises NotFound."""
    return _pick(get(db, name), number)


def is_there(session: Session, name: str, number: int) -> bool:
    """Whether this version has not been deleted."""
    this = and_(VersionRow.name == name, VersionRow.version == number)
    return bool(session.scalar(select(exists().where(this))))


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


def every(db: Database) -> list[Model]:
    """All models, the newest name first."""
    alive = select(ModelRow).where(ModelRow.name.in_(select(VersionRow.name))).order_by(ModelRow.id.desc())
    with db.reading() as session:
        return _models(session, session.scalars(alive).all())


def set_enabled(db: Database, name: str, enabled: bool) -> Model:
    """Let a model answer predictions, or not any more. Raises NotFound."""
    return _set(db, name, enabled=enabled)


def set_model_serving(db: Database, name: str, serving: ModelServing) -> Model:
    """Load a model then, and keep to these bounds, from now on. Raises NotFound."""
    return _set(db, name, serving=serving.model_dump(mode="json"))


def set_serving(db: Database, name: str, number: int, serving: Serving) -> ModelVersion:
    """Serve a version like this from now on. Raises NotFound."""
    with db.session() as session:
        _hold(session, name)
        _pick(_model(session, name), number)
        this = and_(VersionRow.name == name, VersionRow.version == number)
        session.execute(update(VersionRow).where(this).values(serving=serving.model_dump(mode="json")))
        announce(session)
        session.expire_all()
        return _pick(_model(session, name), number)


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
        announce(session)
        return _pick(_model(session, name), number)


def delete_alias(db: Database, name: str, alias: str) -> None:
    """Raises NotFound."""
    with db.session() as session:
        model = _model(session, name)
        if alias not in model.aliases:
            hint = suggest(alias, model.aliases)
            raise NotFound(f"model {name!r} has no alias {alias!r}. {hint}", pointer="/alias")
        session.execute(delete(AliasRow).where(AliasRow.name == name, AliasRow.alias == alias))
        announce(session)


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


def check_name(name: str) -> None:
    """Whether new versions may have this name. Raises InvalidInput."""
    if is_id("job", name):
        raise InvalidInput(
            f"{name!r} has the form of a job's id, and would mean that job's model; choose another name.",
            pointer="/name",
        )


def add_version(session: Session, job: JobRow, model: FinishedModel) -> ModelVersion:
    """Register what a job made as the next version of its name, in the transaction that ends the job."""
    return _add(
        session,
        job.name,
        job.spec["model"],
        model,
        job_id=job.id,
        framework=job.framework,
        metrics=job.metrics,
        dataset_id=job.dataset_id,
        dataset_name=job.dataset_name,
    )


def add_imported(
    db: Database, name: str, spec: Spec, model: FinishedModel, *, idempotency: IdempotencyClaim | None = None
) -> ModelVersion:
    """Register weights from elsewhere, in the store already, as the next version of a name."""
    with db.session() as session:
        version = _add(session, name, spec.model_dump(mode="json"), model, metrics={})
        if idempotency is not None:
            idempotency_keys.attach(session, idempotency, f"{version.name}@{version.version}")
        return version


def _add(
    session: Session, name: str, spec: dict[str, Any], model: FinishedModel, **origin: Any
) -> ModelVersion:
    row = VersionRow(
        name=name,
        version=_next_number(session, name),
        spec=spec,
        signature=model.signature.model_dump(mode="json"),
        classes=None if model.classes is None else list(model.classes),
        **origin,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        parameters=model.parameters,
        created_at=now(),
    )
    session.add(row)
    session.flush()
    announce(session)
    return model_records.version(
        row, (), session.scalars(select(ModelRow).where(ModelRow.name == name)).one()
    )


def _set(db: Database, name: str, **values: Any) -> Model:
    with db.session() as session:
        _hold(session, name)
        _model(session, name)
        session.execute(update(ModelRow).where(ModelRow.name == name).values(**values))
        announce(session)
        session.expire_all()
        return _model(session, name)


def _next_number(session: Session, name: str) -> int:
    """Count up in one statement: two jobs that finish together get two numbers."""
    first = upsert(session, ModelRow).values(name=name, id=new_id("mdl"), last_version=1, created_at=now())
    counted = first.on_conflict_do_update(
        index_elements=["name"], set_={"last_version": ModelRow.last_version + 1}
    )
    return cast(int, session.execute(counted.returning(ModelRow.last_version)).scalar_one())


def _meant(reference: str) -> Select[VersionRow]:
    if is_id("job", reference):
        return select(VersionRow).where(VersionRow.job_id == reference)
    name, at, which = reference.partition("@")
    of_name = select(VersionRow).where(VersionRow.name == name)
    if which.isdecimal() and len(which) <= LONGEST_NUMBER:
        return of_name.where(VersionRow.version == int(which))
    alias = and_(
        AliasRow.name == VersionRow.name,
        AliasRow.version == VersionRow.version,
        AliasRow.alias == (which if at else CHAMPION),
    )
    if at and which != CHAMPION:
        return of_name.join(AliasRow, alias)
    newest_first = (AliasRow.alias.is_(None), VersionRow.version.desc())
    return of_name.outerjoin(AliasRow, alias).order_by(*newest_first).limit(1)


def _unknown(session: Session, reference: str) -> NotFound:
    name, _, which = reference.partition("@")
    if name.startswith("job_") and not session.scalar(select(exists().where(VersionRow.name == name))):
        return _no_model(session, reference)
    model = _model(session, name)
    if which.isdecimal():
        return _no_version(model, which)
    known = {CHAMPION, *model.aliases, *(str(one.version) for one in model.versions)}
    return NotFound(f"model {name!r} has no alias {which!r}. {suggest(which, known)}", pointer="/model")


def _no_model(session: Session, job_id: str) -> NotFound:
    job = session.get(JobRow, job_id)
    if job is None:
        return NotFound(f"there is no job {job_id!r}.", pointer="/model")
    state = (
        "has no model any more: it was deleted" if job.status == "succeeded" else f"is {job.status}: no model"
    )
    return NotFound(f"job {job_id} {state}.", pointer="/model")


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
        model_records.model(
            row,
            [one for one in versions if one.name == row.name],
            [one for one in aliases if one.name == row.name],
        )
        for row in rows
    ]


def _pick(model: Model, number: int) -> ModelVersion:
    found = next((one for one in model.versions if one.version == number), None)
    if found is None:
        raise _no_version(model, number)
    return found


def _no_version(model: Model, number: int | str) -> NotFound:
    known = ", ".join(str(one.version) for one in reversed(model.versions))
    return NotFound(f"model {model.name!r} has no version {number}. Known: {known}.", pointer="/version")


def _hold(session: Session, name: str) -> None:
    """Changes to one model's versions and aliases wait for each other."""
    session.execute(select(ModelRow.id).where(ModelRow.name == name).with_for_update())


def _delete(session: Session, versions: Sequence[ModelVersion]) -> None:
    numbers = [one.version for one in versions]
    session.execute(
        delete(VersionRow).where(VersionRow.name == versions[0].name, VersionRow.version.in_(numbers))
    )
    # A name that comes back does so as a new one does.
    left = exists().where(VersionRow.name == versions[0].name)
    session.execute(
        update(ModelRow).where(ModelRow.name == versions[0].name, ~left).values(enabled=True, serving=None),
        execution_options={"synchronize_session": False},
    )
    announce(session)


def _discard(db: Database, store: ArtifactStore, versions: Sequence[ModelVersion]) -> Deleted:
    for sha256 in {one.sha256 for one in versions}:
        discard(db, store, sha256)
    aliases = tuple(alias for one in versions for alias in one.aliases)
    return Deleted(tuple(one.version for one in versions), aliases)
