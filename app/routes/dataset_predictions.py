"""Predictions of whole datasets, made by workers and kept as files."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from pydantic import Field

from app.bodies import body
from app.deps import IdempotencyKey, Paging, Uses
from app.downloads import Wanted, download, file_answers
from app.idempotency import Answer, Sent, once
from app.openapi import READING_A_BODY, Responses, json_body, problems
from app.prediction_submission import settled
from app.routes.events import ANSWERS, EventPaging, LastEventId, told
from app.routes.jobs import LOG
from app.schemas.dataset_predictions import ID, DatasetPrediction, DeletedPrediction
from app.schemas.jobs import Event
from app.schemas.paging import Listed
from models.scoring.spec import PredictionSpec
from workers import job_queries, jobs, predictions
from workers.idempotency import IdempotencyClaim, fingerprint
from workers.job_records import Job as JobRecord
from workers.job_records import Status

router = APIRouter(prefix="/predictions", tags=["Predict"])

MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}
PredictionId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="A prediction's id.", examples=[ID])
]
WHOLE = {"model": "digits-cnn", "dataset": "digits", "split": "all", "format": "jsonl"}
LIKELIEST = {
    "model": "digits-cnn@3",
    "dataset": "digits",
    "engine": "jax",
    "return": ["labels", "probabilities"],
    "top_k": 3,
}
CREATED: Responses = {
    201: {
        "model": DatasetPrediction,
        "description": "The prediction, queued.",
        "headers": {
            "Location": {
                "description": "Where the prediction is.",
                "schema": {"type": "string"},
                "example": f"/predictions/{ID}",
            }
        },
    }
}


class PredictionFilter(Paging):
    """Which predictions."""

    status: Status | None = Field(default=None, examples=["running"])
    model: str | None = Field(
        default=None, pattern=r"^[a-z0-9._-]{1,64}$", description="A model's name.", examples=["digits-cnn"]
    )
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
    openapi_extra=json_body(PredictionSpec, whole=WHOLE, likeliest=LIKELIEST),
)
def create_prediction(
    spec: Annotated[PredictionSpec, Depends(body(PredictionSpec))], key: IdempotencyKey, uses: Uses
) -> Response:
    """Queue the prediction of a whole dataset.

    A worker of the engine's framework computes it. The result is one file, a row for each sample in their order:
    `row`, `split`, `target` (what the dataset says), and what `POST /predict` would answer. `model` means the version
    that it means now, wherever its aliases move later.
    """

    def create(claim: IdempotencyClaim | None) -> JobRecord:
        complete, dataset, version = settled(uses.database, spec)
        attempts = uses.settings.max_attempts
        made = predictions.create(
            uses.database, complete, dataset, version, max_attempts=attempts, idempotency=claim
        )
        uses.publisher.announce(made)
        return made

    sent = Sent(key, "POST /predictions", fingerprint(spec.model_dump_json()))
    return once(uses.database, sent, create, lambda made: job_queries.get(uses.database, made), _created)


@router.get("", responses=problems())
def list_predictions(wanted: Annotated[PredictionFilter, Query()], uses: Uses) -> Listed[DatasetPrediction]:
    """Predictions of datasets, newest first."""
    asked = wanted.model_dump()
    page = job_queries.page(uses.database, kind="prediction", name=asked.pop("model"), **asked)
    shown = map(DatasetPrediction.of, page.data)
    return Listed[DatasetPrediction].of(shown, (one.id for one in page.data), page.has_more)


@router.get("/{prediction_id}", responses=problems(404))
def get_prediction(prediction_id: PredictionId, uses: Uses) -> DatasetPrediction:
    """One prediction."""
    return DatasetPrediction.of(job_queries.get(uses.database, prediction_id, "prediction"))


@router.delete("/{prediction_id}", responses=problems(403, 404, 409))
def delete_prediction(prediction_id: PredictionId, uses: Uses) -> DeletedPrediction:
    """Delete a prediction that has ended, with its result."""
    predictions.delete(uses.database, uses.store, uses.settings.checkpoints_dir, prediction_id)
    return DeletedPrediction(id=prediction_id)


@router.post("/{prediction_id}/cancel", responses=problems(403, 404, 409))
def cancel_prediction(prediction_id: PredictionId, uses: Uses) -> DatasetPrediction:
    """End a prediction: at once if it is queued, soon if it is running. Asking again changes nothing."""
    return DatasetPrediction.of(jobs.cancel(uses.database, prediction_id, "prediction"))


@router.post("/{prediction_id}/retry", status_code=201, responses=problems(403, 404, 409, besides=CREATED))
def retry_prediction(prediction_id: PredictionId, key: IdempotencyKey, uses: Uses) -> Response:
    """A new prediction like this failed or cancelled one, which goes on from the rows that it has kept."""

    def create(claim: IdempotencyClaim | None) -> JobRecord:
        made = jobs.retry(uses.database, prediction_id, "prediction", idempotency=claim)
        uses.publisher.announce(made)
        return made

    sent = Sent(key, f"POST /predictions/{prediction_id}/retry", fingerprint(prediction_id))
    return once(uses.database, sent, create, lambda made: job_queries.get(uses.database, made), _created)


@router.get("/{prediction_id}/events", response_model=Listed[Event], responses=ANSWERS)
async def get_prediction_events(
    request: Request,
    prediction_id: PredictionId,
    uses: Uses,
    wanted: Annotated[EventPaging, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """What happened to the prediction, oldest first; with `Accept: text/event-stream` live. As for jobs; `event:` is
    one of status, progress, log, done."""
    return await told(request, uses, "prediction", prediction_id, wanted, last_event_id)


@router.get("/{prediction_id}/logs", response_class=PlainTextResponse, responses=LOG)
def get_prediction_logs(prediction_id: PredictionId, uses: Uses) -> PlainTextResponse:
    """The prediction's log."""
    return PlainTextResponse(job_queries.logs(uses.database, prediction_id, "prediction"))


@router.get(
    "/{prediction_id}/result",
    response_class=FileResponse,
    responses=problems(
        404,
        409,
        412,
        416,
        besides=file_answers(
            {
                MEDIA_TYPES["parquet"]: "A Parquet file,",
                MEDIA_TYPES["jsonl"]: "or a JSON object a line, as it was asked for.",
            }
        ),
    ),
)
def get_result(prediction_id: PredictionId, uses: Uses, wanted: Wanted) -> Response:
    """Download the result, once there is one. The ETag is the file's SHA-256; ranges can be asked for."""
    found = job_queries.get(uses.database, prediction_id, "prediction")
    path = predictions.result(uses.store, found)
    assert found.artifact_sha256 is not None
    format = found.spec["format"]
    filename = f"{found.model_name}-{found.model_version}-{found.dataset_name}-{found.spec['split']}.{format}"
    return download(path, found.artifact_sha256, wanted, MEDIA_TYPES[format], filename)


def _created(job: JobRecord) -> Answer:
    return Answer(DatasetPrediction.of(job).model_dump_json(), f"/predictions/{job.id}")
