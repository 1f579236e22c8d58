"""Datasets by name: the built-in ones, always there, and uploads."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from sqlalchemy import Select, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.data import dataset as dataset_file
from models.data.builtin import BUILTIN
from models.data.dataset import Dataset, DatasetDescription
from models.data.report import Report
from models.errors import Conflict, InvalidInput, NotFound, suggest
from models.job import NAME_PATTERN
from workers import idempotency as idempotency_keys
from workers.artifacts import Artifact, ArtifactStore
from workers.clock import moment, now
from workers.database import Database, upsert
from workers.idempotency import IdempotencyClaim
from workers.identifiers import is_id, new_id, stable_id
from workers.job_records import NOUNS, Kind
from workers.paging import Order, Page, check_cursor, page_of
from workers.references import discard
from workers.tables import ComparisonRow, DatasetRow, JobRow


@dataclass(frozen=True)
class DatasetRecord:
    """`sha256` and `size_bytes` of the stored file are None for a built-in that nobody has prepared yet."""

    id: str
    name: str
    description: DatasetDescription
    sha256: str | None
    size_bytes: int | None
    builtin: bool
    created_at: datetime


def get(db: Database, name_or_id: str) -> DatasetRecord:
    """Raises NotFound, with the nearest name."""
    with db.reading() as session:
        row = session.scalar(_named(name_or_id))
    if row is not None:
        return _record(row)
    _introduce_builtins(db)
    with db.reading() as session:
        return _record(_find(session, name_or_id))


def page(
    db: Database, limit: int = 20, after: str | None = None, order: Order = "desc"
) -> Page[DatasetRecord]:
    """All datasets, newest first, the built-in ones last. `after` is an id. Raises InvalidInput."""
    check_cursor(after, "ds")
    _introduce_builtins(db)
    with db.reading() as session:
        rows = page_of(session, select(DatasetRow), DatasetRow.id, limit=limit, after=after, order=order)
        return rows.map(_record)


def samples(store: ArtifactStore, record: DatasetRecord) -> Dataset:
    """The samples themselves. Raises Conflict when a built-in dataset has not been fetched yet, NotFound when an
    upload is being deleted, CorruptArtifact."""
    if record.sha256 is not None and store.exists(record.sha256):
        return dataset_file.read(store.path(record.sha256))
    if not record.builtin:
        raise NotFound(f"the file of dataset {record.name!r} is gone.")
    if not BUILTIN[record.name].shipped:
        raise Conflict(
            f"{record.name!r} is fetched by the first job that trains on it, and none has done so yet."
        )
    return BUILTIN[record.name].load(Path("/nowhere"))


def check_name(db: Database, name: str) -> None:
    """Whether an upload may have this name. Raises InvalidInput, or Conflict when it is taken."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidInput(
            f"{name!r} cannot be a dataset's name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', and begin with a"
            " letter or digit.",
            pointer="/name",
        )
    if is_id("ds", name):
        raise InvalidInput(
            f"{name!r} has the form of a dataset's id, and would be taken for one; choose another name.",
            pointer="/name",
        )
    with db.reading() as session:
        if name in BUILTIN or session.scalar(select(exists().where(DatasetRow.name == name))):
            raise _taken(name)


def add(
    db: Database,
    store: ArtifactStore,
    name: str,
    dataset: Dataset,
    *,
    idempotency: IdempotencyClaim | None = None,
) -> DatasetRecord:
    """Store an upload. Raises InvalidInput for a bad name, Conflict when it is taken."""
    check_name(db, name)
    with store.scratch(".safetensors") as path:
        dataset_file.write(dataset, path)
        artifact = store.adopt(path)
    row = DatasetRow(
        id=new_id("ds"),
        name=name,
        description=dataset.description.model_dump(mode="json"),
        builtin=False,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        created_at=now(),
    )
    try:
        with db.session() as session:
            session.add(row)
            session.flush()
            if idempotency is not None:
                idempotency_keys.attach(session, idempotency, row.id)
            return _record(row)
    except IntegrityError as problem:
        raise _taken(name) from problem


def delete(db: Database, store: ArtifactStore, name_or_id: str) -> None:
    """Delete an upload and its file. Raises NotFound; Conflict for a built-in or while a job or prediction needs it."""
    with db.session() as session:
        row = _find(session, name_or_id, for_update=True)
        if row.builtin:
            raise Conflict(f"{row.name!r} is built in; it cannot be deleted.")
        user = session.scalar(_unfinished_jobs(row.id).limit(1))
        if user is not None:
            raise Conflict(
                f"{NOUNS[cast(Kind, user.kind)]} {user.id} needs dataset {row.name!r}; wait for it or cancel it first."
            )
        if (comparison := session.scalar(_running_comparisons(row.id).limit(1))) is not None:
            raise Conflict(
                f"comparison {comparison} needs dataset {row.name!r}; wait for it or cancel it first."
            )
        session.delete(row)
        sha256 = row.sha256
    if sha256 is not None:
        discard(db, store, sha256)


def record_prepared(db: Database, name: str, artifact: Artifact, report: Report | None = None) -> None:
    """A built-in dataset's file is in the store now, and its samples have been looked at."""
    _introduce_builtins(db)
    with db.session() as session:
        row = _find(session, name, for_update=True)
        row.sha256, row.size_bytes = artifact.sha256, artifact.size_bytes
        row.description = {**row.description, "report": report and report.model_dump(mode="json")}


def hold(session: Session, dataset_id: str, name: str) -> None:
    """Keep the dataset from being deleted until this transaction ends. Raises NotFound when it is gone."""
    query = select(DatasetRow.id).where(DatasetRow.id == dataset_id).with_for_update(read=True)
    if session.scalar(query) is None:
        raise NotFound(f"dataset {name!r} has been deleted; upload it again.", pointer="/dataset")


def _introduce_builtins(db: Database) -> None:
    """Insert the rows of built-in datasets that this database has not seen yet; whoever is first wins."""
    with db.reading() as session:
        missing = set(BUILTIN).difference(session.scalars(select(DatasetRow.name).where(DatasetRow.builtin)))
    if not missing:
        return
    with db.session() as session:
        for name in sorted(missing):  # in one order everywhere: two that insert crosswise would deadlock
            row = upsert(session, DatasetRow).values(
                id=stable_id("ds", name),
                name=name,
                description=BUILTIN[name].description.model_dump(mode="json"),
                builtin=True,
                created_at=now(),
            )
            session.execute(row.on_conflict_do_nothing())


def _named(name_or_id: str) -> Select[DatasetRow]:
    column = DatasetRow.id if is_id("ds", name_or_id) else DatasetRow.name
    return select(DatasetRow).where(column == name_or_id)


def _find(session: Session, name_or_id: str, *, for_update: bool = False) -> DatasetRow:
    query = _named(name_or_id)
    row = session.scalar(query.with_for_update() if for_update else query)
    if row is None:
        known = {*BUILTIN, *session.scalars(select(DatasetRow.name))}
        raise NotFound(
            f"there is no dataset {name_or_id!r}. {suggest(name_or_id, known)}", pointer="/dataset"
        )
    return row


def _unfinished_jobs(dataset_id: str) -> Select[JobRow]:
    return select(JobRow).where(JobRow.dataset_id == dataset_id, JobRow.status.in_(["queued", "running"]))


def _running_comparisons(dataset_id: str) -> Select[str]:
    """Between two of its jobs a comparison has none that is unfinished."""
    return select(ComparisonRow.id).where(
        ComparisonRow.dataset_id == dataset_id, ComparisonRow.status == "running"
    )


def _taken(name: str) -> Conflict:
    kind = "a built-in dataset" if name in BUILTIN else "another dataset"
    return Conflict(f"{name!r} is the name of {kind}; choose another one.", pointer="/name")


def _record(row: DatasetRow) -> DatasetRecord:
    description = DatasetDescription.model_validate(row.description)
    if row.builtin and row.name in BUILTIN:
        # What a built-in is follows the program, not what an older version has stored.
        now_known = BUILTIN[row.name].description
        description = now_known.model_copy(update={"report": description.report})
    return DatasetRecord(
        id=row.id,
        name=row.name,
        description=description,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        builtin=row.builtin,
        created_at=moment(row.created_at),
    )
