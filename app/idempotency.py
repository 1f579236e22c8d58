"""`Idempotency-Key`: a request that creates something may be sent twice and creates it once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.responses import Response

from workers import idempotency
from workers.database import Database
from workers.idempotency import Created, IdempotencyClaim, StoredAnswer

R = TypeVar("R")
IN_FLIGHT_S = 600
"""After so long a request that never ended may be tried again. Taking in a large upload takes minutes."""


@dataclass(frozen=True)
class Answer:
    """201, with where the new thing is and what it is."""

    body: str
    location: str
    status: int = 201

    def response(self, *, replayed: bool = False) -> Response:
        headers = {"Location": self.location} | ({"Idempotency-Replayed": "true"} if replayed else {})
        return Response(self.body, self.status, headers, "application/json")


@dataclass(frozen=True)
class Sent:
    """A request as it can be recognised: its key if it has one, its address, and a hash of what it says."""

    key: str | None
    route: str
    fingerprint: str


def once(
    database: Database,
    sent: Sent,
    create: Callable[[IdempotencyClaim | None], R],
    find: Callable[[str], R],
    answer: Callable[[R], Answer],
) -> Response:
    """Create and answer; or, if this very request was carried out before, answer as then.

    `create` ties the new resource to the claim, `find` gives a resource by its id. Raises InvalidInput if the key
    came with another request, Conflict while the same one is being carried out, and whatever `create` raises.
    """
    if sent.key is None:
        return answer(create(None)).response()
    before = idempotency.begin(database, sent.key, sent.route, sent.fingerprint, in_flight_s=IN_FLIGHT_S)
    match before:
        case StoredAnswer():
            return Answer(before.body, before.location or "", before.status).response(replayed=True)
        case Created():
            return _completed(database, before.claim, answer(find(before.resource_id))).response(
                replayed=True
            )
        case IdempotencyClaim():
            made = _created(database, before, create)
            return _completed(database, before, answer(made)).response()


def _created(database: Database, claim: IdempotencyClaim, create: Callable[[IdempotencyClaim], R]) -> R:
    try:
        return create(claim)
    except BaseException:
        idempotency.abandon(database, claim)
        raise


def _completed(database: Database, claim: IdempotencyClaim, answer: Answer) -> Answer:
    idempotency.complete(database, claim, answer.status, answer.body, answer.location)
    return answer
