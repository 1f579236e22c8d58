"""Predictions of whole datasets."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from app.schemas.jobs import JobDataset, JobError
from app.schemas.paging import Answer
from models.answers import Wanted
from models.framework import Framework
from models.scoring.spec import ResultFormat, SplitChoice
from workers.job_records import Job as JobRecord
from workers.job_records import Status

ID = "pred_01jd8zq4m3v6x9n2k5t7w0y1ab"
EXAMPLE: dict[str, Any] = {
    "id": ID,
    "object": "prediction",
    "status": "succeeded",
    "phase": None,
    "progress": {"rows": 360, "total_rows": 360},
    "model": {"name": "digits-cnn", "version": 3},
    "engine": "torch",
    "dataset": {"id": "ds_00000000000000000000000000", "name": "digits", "sha256": "9f86d081884c7d65" * 4},
    "split": "test",
    "format": "parquet",
    "return": ["labels"],
    "top_k": 1,
    "metrics": {"loss": 0.05, "accuracy": 0.986},
    "timing": {"queued_s": 0.1, "setup_s": 0.2, "score_s": 0.3, "samples_per_s": 5200.0},
    "device": "cpu",
    "worker": "wrk_01jd8zq4m3v6x9n2k5t7w0y1ab",
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested": False,
    "result": {
        "sha256": "60303ae22b998861" * 4,
        "size_bytes": 5120,
        "rows": 360,
        "url": f"/predictions/{ID}/result",
    },
    "resumed_from": None,
    "error": None,
    "created_at": "2026-01-05T09:30:00Z",
    "started_at": "2026-01-05T09:30:01Z",
    "finished_at": "2026-01-05T09:30:02Z",
    "estimated_finish": None,
    "metadata": {"team": "vision"},
    "urls": {
        "self": f"/predictions/{ID}",
        "events": f"/predictions/{ID}/events",
        "logs": f"/predictions/{ID}/logs",
        "result": f"/predictions/{ID}/result",
        "cancel": f"/predictions/{ID}/cancel",
        "retry": f"/predictions/{ID}/retry",
        "model": "/models/digits-cnn/versions/3",
    },
}


class RowProgress(Answer):
    """How far it is; `rows` is null until it begins."""

    rows: int | None
    total_rows: int


class Predictor(Answer):
    """The version that predicts: what the reference meant when it was asked for."""

    name: str
    version: int


class PredictionResult(Answer):
    """The file."""

    sha256: str
    size_bytes: int
    rows: int
    url: str


class PredictionUrls(Answer):
    """Where the rest is."""

    self: str
    events: str
    logs: str
    result: str
    cancel: str
    retry: str
    model: str

    @classmethod
    def of(cls, job: JobRecord) -> "PredictionUrls":
        base = f"/predictions/{job.id}"
        parts = {part: f"{base}/{part}" for part in cls.model_fields if part not in ("self", "model")}
        model = f"/models/{job.model_name}/versions/{job.model_version}"
        return cls.model_validate({"self": base, "model": model, **parts})


class DatasetPrediction(Answer):
    """The prediction of a whole dataset."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [EXAMPLE]}, validate_by_name=True, serialize_by_alias=True
    )
    id: str
    object: Literal["prediction"] = "prediction"
    status: Status
    phase: str | None = Field(description="What is going on, for people.")
    progress: RowProgress
    model: Predictor
    engine: Framework
    dataset: JobDataset
    split: SplitChoice
    format: ResultFormat
    wanted: tuple[Wanted, ...] = Field(alias="return")
    top_k: int
    metrics: dict[str, float | None] = Field(
        description="By the dataset's own labels, where the model knows them: accuracy and loss, or rmse and mae; and"
        " unanswered_rows, where an answer is not a finite number."
    )
    timing: dict[str, float | None] = Field(description="queued_s, setup_s, score_s, samples_per_s.")
    device: str | None
    worker: str | None
    attempt: int
    max_attempts: int
    cancel_requested: bool
    result: PredictionResult | None
    resumed_from: str | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish: datetime | None
    metadata: dict[str, Any]
    urls: PredictionUrls

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        spec, urls = job.spec, PredictionUrls.of(job)
        result = job.artifact_sha256 and {
            "sha256": job.artifact_sha256,
            "size_bytes": job.artifact_bytes,
            "rows": spec["rows"],
            "url": urls.result,
        }
        error = job.error_code and {"code": job.error_code, "message": job.error_message or ""}
        same = {name: getattr(job, name) for name in cls.model_fields.keys() & vars(job).keys()}
        asked = {name: spec[name] for name in ("engine", "split", "format", "return", "top_k")}
        return cls.model_validate(
            {
                **same,
                **asked,
                "progress": {"rows": job.step, "total_rows": spec["rows"]},
                "model": {"name": job.model_name, "version": job.model_version},
                "dataset": {"id": job.dataset_id, "name": job.dataset_name, "sha256": job.dataset_sha256},
                "result": result or None,
                "error": error or None,
                "urls": urls,
            }
        )


class DeletedPrediction(Answer):
    """What went."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": ID, "object": "prediction", "deleted": True}]}
    )
    id: str
    object: Literal["prediction"] = "prediction"
    deleted: Literal[True] = True
