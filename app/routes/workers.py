"""The workers that live."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.deps import Paging, Uses
from app.openapi import problems
from app.schemas.operations import Worker
from app.schemas.paging import Listed
from workers import fleet

router = APIRouter(tags=["Operations"])
BEATS_MISSED = 3


@router.get("/workers", responses=problems())
def list_workers(paging: Annotated[Paging, Query()], uses: Uses) -> Listed[Worker]:
    """Workers that have given a sign of life lately, and what they are doing."""
    lately = BEATS_MISSED * uses.settings.beat_s
    page = fleet.page(uses.database, **paging.model_dump(), seen_within_s=lately)
    return Listed[Worker].of(map(Worker.of, page.data), (one.id for one in page.data), page.has_more)
