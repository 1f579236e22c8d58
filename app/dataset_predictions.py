"""The part of the Python client that predicts whole datasets."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.connection import Connection, at, given
from app.replies import DatasetPrediction, JobEvent


class DatasetPredictions(Connection):
    """Predictions that workers make and keep as files."""

    def predict_dataset(
        self,
        model: str,
        dataset: str,
        *,
        split: str = "test",
        engine: str = "auto",
        returns: Sequence[str] = ("labels",),
        top_k: int = 1,
        format: str = "parquet",
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> DatasetPrediction:
        """Queue the prediction of a dataset's split (train, validation, test or all), to be kept as `parquet` or
        `jsonl`; sending the same key twice makes one."""
        body = {"model": model, "dataset": dataset, "split": split, "engine": engine, "top_k": top_k}
        body |= {"return": list(returns), "format": format} | given(metadata=metadata and dict(metadata))
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._prediction("POST", "/predictions", json=body, headers=headers)

    def prediction(self, prediction_id: str) -> DatasetPrediction:
        return self._prediction("GET", at("predictions", prediction_id))

    def predictions(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        dataset: str | None = None,
        limit: int | None = None,
    ) -> Iterator[DatasetPrediction]:
        """Predictions of datasets, newest first; all of them unless `limit` says how many."""
        wanted = {"status": status, "model": model, "dataset": dataset}
        return self._pages("/predictions", DatasetPrediction, limit, wanted)

    def cancel_prediction(self, prediction_id: str) -> DatasetPrediction:
        return self._prediction("POST", at("predictions", prediction_id, "cancel"))

    def retry_prediction(self, prediction_id: str) -> DatasetPrediction:
        """A new prediction that goes on from the rows that a failed or cancelled one has kept."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self._prediction("POST", at("predictions", prediction_id, "retry"), headers=headers)

    def delete_prediction(self, prediction_id: str) -> None:
        self._answer("DELETE", at("predictions", prediction_id))

    def follow_prediction(
        self, prediction_id: str, after: int = 0, patience_s: float = 60.0
    ) -> Iterator[JobEvent]:
        """The prediction's events, past and live, until it is done; see `follow`."""
        return self._follow(at("predictions", prediction_id, "events"), after, patience_s)

    def wait_for_prediction(self, prediction_id: str) -> DatasetPrediction:
        """The prediction once it has finished, however it ended."""
        for _ in self.follow_prediction(prediction_id):
            pass
        return self.prediction(prediction_id)

    def download_prediction(self, prediction_id: str, file: Path) -> Path:
        """Write the result to `file`, whole or not at all, checked by its hash."""
        return self._save(at("predictions", prediction_id, "result"), file)[0]

    def _prediction(self, method: str, path: str, **request: Any) -> DatasetPrediction:
        return DatasetPrediction.model_validate(self._json(method, path, **request))
