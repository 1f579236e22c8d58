"""Requests that may be sent twice: the store behind `Idempotency-Key`.

begin() claims a key. The transaction that creates the resource ties it to the key (`attach`), so even a crash right
after it leads to the same resource, not to a second one. complete() keeps the answer, to be sent again.
"""

import hashlib
import math
import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.orm import Session

from models.errors import Conflict, InvalidInput
from workers.clock import now
from workers.database import Database, upsert
from workers.tables import IdempotencyRow

POINTER = "/headers/idempotency-key"
LONGEST_KEY = 255
LONGEST_WAIT_S = 5


@dataclass(frozen=True)
class IdempotencyClaim:
    """The right to carry out the request with this key; `token` tells it from one that was given up."""

    key: str
    route: str
    token: str


@dataclass(frozen=True)
class StoredAnswer:
    """The same request has been answered already: send this again."""

    status: int
    body: str
    location: str | None


@dataclass(frozen=True)
class Created:
    """The same request has created this resource, but nobody noted the answer: make it and complete `claim`."""

    claim: IdempotencyClaim
    resource_id: str


def fingerprint(*parts: bytes | str) -> str:
    """A hash that tells requests apart; the parts' boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def begin(
    db: Database, key: str, route: str, fingerprint: str, *, in_flight_s: float = 60
) -> IdempotencyClaim | StoredAnswer | Created:
    """Claim the key for a request, or learn how it went before.

    A claim that is neither completed nor abandoned in `in_flight_s` seconds may be taken over.
    Raises InvalidInput for another request under the same key, Conflict while the same one is being answered.
    """
    if not 1 <= len(key) <= LONGEST_KEY:
        raise InvalidInput(f"an Idempotency-Key has 1 to {LONGEST_KEY} characters.", pointer=POINTER)
    token = secrets.token_hex(16)
    with db.session() as session:
        row = _claim(session, IdempotencyClaim(key, route, token), fingerprint, in_flight_s)
        if row.fingerprint != fingerprint:
            raise InvalidInput(
                "this Idempotency-Key was used with another request; use a new key for a new request.",
                pointer=POINTER,
                code="idempotency_key_reused",
            )
        if row.answer_status is not None:
            return StoredAnswer(row.answer_status, row.answer_body or "", row.answer_location)
        if row.token != token:
            raise _in_flight(row.in_flight_until - session.scalars(select(now())).one())
        claim = IdempotencyClaim(row.key, row.route, token)
        return claim if row.resource_id is None else Created(claim, row.resource_id)


def attach(session: Session, claim: IdempotencyClaim, resource_id: str) -> None:
    """Tie the resource to the key, in the transaction that creates it. Raises Conflict when the claim was lost."""
    statement = update(IdempotencyRow).where(_is(claim)).values(resource_id=resource_id)
    if session.execute(statement.returning(IdempotencyRow.key)).first() is None:
        raise _in_flight(1)


def complete(
    db: Database, claim: IdempotencyClaim, status: int, body: str, location: str | None = None
) -> None:
    """Keep the answer. Does nothing when the claim was lost."""
    with db.session() as session:
        session.execute(
            update(IdempotencyRow)
            .where(_is(claim))
            .values(answer_status=status, answer_body=body, answer_location=location)
        )


def abandon(db: Database, claim: IdempotencyClaim) -> None:
    """Nothing was created: the key may be used again at once."""
    with db.session() as session:
        session.execute(delete(IdempotencyRow).where(_is(claim), IdempotencyRow.resource_id.is_(None)))


def prune(db: Database, older_than_s: float = 86_400) -> int:
    """Forget keys claimed `older_than_s` seconds ago or longer; how many."""
    old = delete(IdempotencyRow).where(IdempotencyRow.created_at <= now() - older_than_s)
    with db.session() as session:
        return len(session.execute(old.returning(IdempotencyRow.key)).all())


def _claim(session: Session, claim: IdempotencyClaim, fingerprint: str, in_flight_s: float) -> IdempotencyRow:
    """The key's row, with our token if it is new, or if the same request was given up by whoever had it."""
    insert = upsert(session, IdempotencyRow).values(
        route=claim.route,
        key=claim.key,
        fingerprint=fingerprint,
        token=claim.token,
        in_flight_until=now() + in_flight_s,
        created_at=now(),
    )
    given_up = and_(
        IdempotencyRow.answer_status.is_(None),
        IdempotencyRow.in_flight_until < now(),
        IdempotencyRow.fingerprint == fingerprint,
    )
    taken_over = {"token": claim.token, "in_flight_until": now() + in_flight_s}
    session.execute(
        insert.on_conflict_do_update(index_elements=["route", "key"], set_=taken_over, where=given_up)
    )
    return session.get_one(IdempotencyRow, (claim.route, claim.key))


def _is(claim: IdempotencyClaim) -> ColumnElement[bool]:
    """The claim's row, as long as nobody has taken it over or answered."""
    return and_(
        IdempotencyRow.route == claim.route,
        IdempotencyRow.key == claim.key,
        IdempotencyRow.token == claim.token,
        IdempotencyRow.answer_status.is_(None),
    )


def _in_flight(wait_s: float) -> Conflict:
    return Conflict(
        "a request with this Idempotency-Key is being answered; ask again shortly.",
        code="idempotency_key_in_flight",
        retry_after_s=max(1, math.ceil(min(wait_s, LONGEST_WAIT_S))),
    )
