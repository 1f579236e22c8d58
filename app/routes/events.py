"""The events of a job or a prediction: a page of them, or live."""

from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Annotated

import anyio
import orjson
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from app.accepting import prefers
from app.deps import Uses
from app.openapi import problems
from app.routes.jobs import JobId
from app.schemas.jobs import Event
from app.schemas.paging import Listed
from app.services import Services
from models.errors import InvalidInput, NotFound
from workers import job_queries
from workers.database import Database
from workers.job_records import Event as EventRecord
from workers.job_records import Kind
from workers.paging import LARGEST_PAGE

POLL_S = 0.25
PING_S = 15.0
EVENT_STREAM = "text/event-stream"
LARGEST_SEQ = 2**63 - 1
LONGEST_SEQ = len(str(LARGEST_SEQ))
"""Digits. Python refuses to read a number of more than 4300."""

router = APIRouter(prefix="/jobs", tags=["Jobs"])


class EventPaging(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid")
    after: int | None = Field(
        default=None, ge=0, le=LARGEST_SEQ, description="Only events with a larger id.", examples=[0]
    )
    limit: int = Field(default=200, ge=1, le=LARGEST_PAGE, description="Events on a page.", examples=[200])


LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="What EventSource sends after it lost the connection.",
        examples=["7"],
    ),
]


ANSWERS = problems(
    404,
    besides={
        200: {
            "description": "A page of events, or the stream of them.",
            "content": {
                EVENT_STREAM: {
                    "schema": {"type": "string"},
                    "example": 'id: 7\nevent: metric\ndata: {"step":22,"epoch":1,"train_loss":0.84}\n\n',
                }
            },
        },
        204: {"description": "Stream only: it is done and there is nothing after that event."},
    },
)


@router.get("/{job_id}/events", response_model=Listed[Event], responses=ANSWERS)
async def get_events(
    request: Request,
    job_id: JobId,
    uses: Uses,
    wanted: Annotated[EventPaging, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """What happened to the job, oldest first.

    With `Accept: text/event-stream` the same live, from the first event (or the one after `Last-Event-ID` or
    `?after=`) until `done`. `event:` is one of status, progress, metric, log, checkpoint, done; of progress only the
    latest is kept. A comment comes every 15 s when nothing else does.
    """
    return await told(request, uses, "training", job_id, wanted, last_event_id)


async def told(
    request: Request, uses: Services, kind: Kind, job_id: str, wanted: EventPaging, last_event_id: str | None
) -> Response:
    """The page or the stream that is asked for."""
    start = _start(wanted.after, last_event_id)
    accept = ",".join(request.headers.getlist("accept"))
    if prefers(accept, EVENT_STREAM, usual="application/json"):
        return await _live(uses, job_id, kind, start)
    return await run_sync(_page, uses.database, job_id, kind, start, wanted.limit)


def _start(after: int | None, last_event_id: str | None) -> int:
    """`Last-Event-ID` wins: on a reconnect EventSource repeats the address, but knows better where it was."""
    if last_event_id is None:
        return after or 0
    if not last_event_id.isdecimal() or len(last_event_id) > LONGEST_SEQ or int(last_event_id) > LARGEST_SEQ:
        raise InvalidInput("Last-Event-ID is the number of an event.", pointer="/headers/last-event-id")
    return int(last_event_id)


def _page(database: Database, job_id: str, kind: Kind, after: int, limit: int) -> Response:
    found = job_queries.events(database, job_id, after, limit + 1, kind)
    events = [Event.of(event) for event in found[:limit]]
    page = Listed[Event].of(events, (str(event.id) for event in events), len(found) > limit)
    return Response(page.model_dump_json(), media_type="application/json")


async def _live(uses: Services, job_id: str, kind: Kind, after: int) -> Response:
    uses.streams.check()
    job = await run_sync(job_queries.get, uses.database, job_id, kind)
    if job.finished and not await run_sync(job_queries.events, uses.database, job_id, after, 1):
        # For EventSource 204 means: do not come back.
        return Response(status_code=204)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(uses, job_id, after), media_type=EVENT_STREAM, headers=headers)


async def _stream(uses: Services, job_id: str, after: int) -> AsyncIterator[bytes]:
    """The events as they come. Ends after `done`, when the client goes away, or when what they are of is deleted."""
    with uses.streams.place(), suppress(NotFound):
        yield b": connected\n\n"
        last_sent = monotonic()
        while True:
            events = await run_sync(job_queries.events, uses.database, job_id, after)
            if events:
                yield b"".join(map(_frame, events))
                after, last_sent = events[-1].seq, monotonic()
                if events[-1].type == "done":
                    return
            elif monotonic() - last_sent >= PING_S:
                yield b": ping\n\n"
                last_sent = monotonic()
            await anyio.sleep(POLL_S)


def _frame(event: EventRecord) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), orjson.dumps(event.data))
