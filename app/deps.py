"""What routes ask for: the services, the idempotency key, pages."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from app.services import Services
from models.errors import InvalidInput
from workers.paging import LARGEST_PAGE, Order

LONGEST_KEY = 255


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Uses = Annotated[Services, Depends(services)]


def idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Any text of your own, up to 255 characters, new for every request that you mean. Sent again"
            " with the same body, it gives the first answer again and makes nothing new.",
            examples=["8f1c9a52-41a7-4d6c-9f0b-0a4f7f0f5f5e"],
        ),
    ] = None,
) -> str | None:
    if idempotency_key is None:
        return None
    if not 0 < len(idempotency_key) <= LONGEST_KEY or not idempotency_key.isprintable():
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable characters.",
            pointer="/headers/idempotency-key",
        )
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


class Paging(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=20, ge=1, le=LARGEST_PAGE, description="Items on a page.", examples=[20])
    after: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The `last_id` of the page before.",
        examples=[None],
    )
    order: Order = Field(default="desc", description="`desc` is newest first.", examples=["desc"])
