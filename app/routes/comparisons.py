"""Comparisons of the frameworks on one training."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from app import comparison_report
from app.accepting import prefers
from app.bodies import body
from app.comparisons import known, listed, settled, whole
from app.deps import IdempotencyKey, Paging, Uses
from app.idempotency import Answer, Sent, once
from app.openapi import READING_A_BODY, Responses, json_body, problems
from app.schemas.comparisons import ID, Comparison, DeletedComparison
from app.schemas.paging import Listed
from models.job import ComparisonSpec
from workers import comparisons
from workers.comparisons import Comparison as Record
from workers.comparisons import Status
from workers.idempotency import IdempotencyClaim, fingerprint

router = APIRouter(prefix="/comparisons", tags=["Comparisons"])

ComparisonId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="A comparison's id.", examples=[ID])
]
SMALL = {"dataset": "digits", "model": {"architecture": "cnn"}, "training": {"epochs": 5}}
SEEDS = {
    "dataset": "diabetes",
    "model": {"architecture": "mlp"},
    "training": {"epochs": 20, "batch_size": 32},
    "frameworks": ["torch", "jax"],
    "seeds": [0, 1, 2],
}
CREATED: Responses = {
    201: {
        "model": Comparison,
        "description": "The comparison; its first job is queued.",
        "headers": {
            "Location": {
                "description": "Where the comparison is.",
                "schema": {"type": "string"},
                "example": f"/comparisons/{ID}",
            }
        },
    }
}
REPORT: Responses = {
    200: {
        "description": "The report: HTML, or Markdown where `Accept` asks for that.",
        "content": {
            "text/html": {"schema": {"type": "string"}},
            "text/markdown": {
                "schema": {"type": "string"},
                "example": "# digits-cnn: PyTorch and JAX compared\n",
            },
        },
    }
}


class ComparisonFilter(Paging):
    """Which comparisons."""

    status: Status | None = Field(default=None, examples=["running"])
    dataset: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9._-]{1,64}$",
        description="A dataset's name or id.",
        examples=["digits"],
    )


@router.post(
    "",
    status_code=201,
    responses=problems(409, *READING_A_BODY, besides=CREATED),
    openapi_extra=json_body(ComparisonSpec, one_seed=SMALL, three_seeds=SEEDS),
)
def create_comparison(
    spec: Annotated[ComparisonSpec, Depends(body(ComparisonSpec))], key: IdempotencyKey, uses: Uses
) -> Response:
    """Compare the frameworks on one training.

    The body is a job's, with `frameworks` and `seeds` instead of `framework`. Each framework trains once for each seed,
    from the same initial weights on the same batches, one job after another; then each model predicts the test split.
    Compare on a machine that has nothing else to do: `runs` says which trainings were not alone.
    """

    def create(claim: IdempotencyClaim | None) -> Record:
        complete, dataset = settled(uses.database, spec)
        attempts = uses.settings.max_attempts
        made, job = comparisons.create(
            uses.database, complete, dataset, max_attempts=attempts, idempotency=claim
        )
        uses.publisher.announce(job)
        return made

    def created(made: Record) -> Answer:
        shown = listed(known(uses.database, made))
        return Answer(shown.model_dump_json(), f"/comparisons/{made.id}")

    sent = Sent(key, "POST /comparisons", fingerprint(spec.model_dump_json()))
    return once(uses.database, sent, create, lambda one: comparisons.get(uses.database, one), created)


@router.get("", responses=problems())
def list_comparisons(wanted: Annotated[ComparisonFilter, Query()], uses: Uses) -> Listed[Comparison]:
    """Comparisons, newest first."""
    page = comparisons.page(uses.database, **wanted.model_dump())
    shown = (listed(known(uses.database, one)) for one in page.data)
    return Listed[Comparison].of(shown, (one.id for one in page.data), page.has_more)


@router.get("/{comparison_id}", responses=problems(404))
async def get_comparison(comparison_id: ComparisonId, uses: Uses) -> Comparison:
    """One comparison. How fast its model predicts is measured when it is first asked for, once it has succeeded."""
    return await _whole(comparison_id, uses)


@router.delete("/{comparison_id}", responses=problems(403, 404, 409))
def delete_comparison(comparison_id: ComparisonId, uses: Uses) -> DeletedComparison:
    """Delete a comparison that has ended. Its jobs, and the models that they made, stay."""
    comparisons.delete(uses.database, comparison_id)
    return DeletedComparison(id=comparison_id)


@router.post("/{comparison_id}/cancel", responses=problems(403, 404, 409))
def cancel_comparison(comparison_id: ComparisonId, uses: Uses) -> Comparison:
    """End a comparison, and the job that it is at. Asking again changes nothing."""
    return listed(known(uses.database, comparisons.cancel(uses.database, comparison_id)))


@router.get("/{comparison_id}/report", response_class=HTMLResponse, responses=problems(404, besides=REPORT))
async def get_report(request: Request, comparison_id: ComparisonId, uses: Uses) -> Response:
    """The comparison as a page of its own, to read, print and keep; with `Accept: text/markdown` as Markdown."""
    shown = await _whole(comparison_id, uses)
    if prefers(request.headers.get("accept", ""), "text/markdown", usual="text/html"):
        return Response(comparison_report.markdown(shown), media_type="text/markdown")
    html = await run_sync(comparison_report.html, shown)
    return HTMLResponse(html, headers={"Content-Security-Policy": comparison_report.POLICY})


async def _whole(comparison_id: str, uses: Uses) -> Comparison:
    record = await run_sync(comparisons.get, uses.database, comparison_id)
    found = await run_sync(known, uses.database, record)
    return await whole(uses.database, uses.predictions.choice, found)
