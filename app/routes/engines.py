"""Which engine serves a model, and the evidence for it."""

from anyio.to_thread import run_sync
from fastapi import APIRouter

from app.deps import Uses
from app.openapi import problems
from app.routes.models import Name, Version
from app.schemas.engines import Engines
from workers import registry

router = APIRouter(prefix="/models", tags=["Models"])


@router.get("/{name}/versions/{version}/engines", responses=problems(404))
async def get_engines(name: Name, version: Version, uses: Uses) -> Engines:
    """The engine that `auto` takes for a version: each is timed on this machine, on the model's own input, and
    compared with the reference. What is not known yet is measured now, which takes some seconds."""
    found = await run_sync(registry.version, uses.database, name, version)
    return Engines.of(found, await uses.predictions.choice.verdict(found))
