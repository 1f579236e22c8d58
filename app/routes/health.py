"""For orchestrators and monitoring."""

from collections.abc import Callable, Mapping
from importlib.metadata import version

from anyio.to_thread import run_sync
from fastapi import APIRouter
from fastapi.responses import Response

from app import metrics as app_metrics
from app.deps import Uses
from app.errors import NotReady
from app.openapi import problems
from app.schemas.operations import Alive, Ready
from app.services import Services
from models.errors import FieldProblem, TandemError, Unavailable
from workers import broker

router = APIRouter(tags=["Operations"])
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz", responses=problems())
def healthz() -> Alive:
    """Whether the process lives. Asks nothing else."""
    return Alive(version=version("tandem"))


@router.get("/readyz", responses=problems())
def readyz(uses: Uses) -> Ready:
    """Whether everything that requests need is there: database, broker, artifact store, and the models that are loaded
    at the start. 503 says which is not."""
    check(uses, *CHECKS)
    return Ready(checks=dict.fromkeys(CHECKS, "ok"))


@router.get(
    "/metrics",
    response_class=Response,
    responses=problems(
        besides={
            200: {
                "description": "Prometheus' text format.",
                "content": {
                    "text/plain": {
                        "schema": {"type": "string"},
                        "example": 'tandem_jobs{framework="torch",status="queued"} 2.0\n',
                    }
                },
            }
        }
    ),
)
async def metrics(uses: Uses) -> Response:
    """Requests, predictions, jobs by status, and the models in memory. `process` is the one of this server's that
    counted."""
    states = await uses.siblings.states()
    text = await run_sync(app_metrics.text, states, uses.database)
    return Response(text, media_type=PROMETHEUS)


def check(uses: Services, *names: str) -> None:
    """Raises NotReady, with what is wrong, unless all of these answer."""
    faults = tuple(fault for name in names if (fault := _fault(name, uses)))
    if faults:
        raise NotReady(faults)


def _fault(name: str, uses: Services) -> FieldProblem | None:
    try:
        CHECKS[name](uses)
    except TandemError as error:
        return FieldProblem(f"/{name}", "unreachable", error.detail)
    return None


def _database(uses: Services) -> None:
    uses.database.ready()


def _broker(uses: Services) -> None:
    if not broker.ping(uses.settings):
        raise Unavailable("The broker does not answer. New jobs are kept and start when it is back.")


def _artifacts(uses: Services) -> None:
    try:
        with uses.store.scratch() as path:
            path.write_bytes(b"ready")
    except OSError as error:
        raise Unavailable(f"The artifact store cannot be written to: {error.strerror}.") from error


def _models(uses: Services) -> None:
    missing = uses.residents.missing
    if missing is None:
        raise Unavailable("Which models are to be loaded at the start is not known yet.")
    if missing:
        raise Unavailable(f"Models are being loaded: {', '.join(missing[:8])}.")


CHECKS: Mapping[str, Callable[[Services], None]] = {
    "database": _database,
    "broker": _broker,
    "artifacts": _artifacts,
    "models": _models,
}
