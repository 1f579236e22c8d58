"""The Python client: jobs in, predictions out, over HTTP.

from app.client import Tandem

with Tandem("http://127.0.0.1:8000") as tandem:
    job = tandem.create_job(
        {"framework": "jax", "dataset": "digits", "model": {"architecture": "cnn"}, "training": {"epochs": 5}}
    )
    for event in tandem.follow(job.id):
        print(event.type, event.data)
    print(tandem.predict(job.id, [Path("three.png")]).predictions[0].label)
"""

import base64
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from app.comparisons_client import Comparisons
from app.connection import DEFAULT_URL, UPLOAD_TIMEOUT, TandemAPIError, at, given
from app.dataset_predictions import DatasetPredictions
from app.models_client import Models
from app.replies import Dataset, Job, JobEvent, Predictions, Worker

__all__ = ["DEFAULT_URL", "Tandem", "TandemAPIError"]

PREDICT_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
"""More than the 30 s that a server waits by default (`predict_timeout_s`), so that it is the server that says why."""
LOADED_AGAIN_AFTER_S = 0.5


class Tandem(DatasetPredictions, Comparisons, Models):
    """A connection to a Tandem server. Safe to share between threads; close it, or use it in a `with` statement.

    Every method raises TandemAPIError when the server refuses or cannot be reached.
    """

    # Jobs

    def create_job(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Queue a training job. `spec` is the body of `POST /jobs`; sending the same key twice makes one job."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Job.model_validate(self._json("POST", "/jobs", json=dict(spec), headers=headers))

    def job(self, job_id: str) -> Job:
        return Job.model_validate(self._json("GET", at("jobs", job_id)))

    def jobs(
        self,
        *,
        status: str | None = None,
        framework: str | None = None,
        dataset: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first; all of them unless `limit` says how many."""
        wanted = {"status": status, "framework": framework, "dataset": dataset, "name": name}
        return self._pages("/jobs", Job, limit, wanted)

    def cancel(self, job_id: str) -> Job:
        return Job.model_validate(self._json("POST", at("jobs", job_id, "cancel")))

    def retry(self, job_id: str) -> Job:
        """A new job that goes on from the last checkpoint of a failed or cancelled one."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return Job.model_validate(self._json("POST", at("jobs", job_id, "retry"), headers=headers))

    def metrics(self, job_id: str, points: int | None = None) -> dict[str, list[Any]]:
        """The job's metrics as columns, thinned to about `points` rows."""
        columns: dict[str, list[Any]] = self._json(
            "GET", at("jobs", job_id, "metrics"), params=given(points=points)
        )
        return columns

    def logs(self, job_id: str) -> str:
        return self._answer("GET", at("jobs", job_id, "logs")).text

    def follow(self, job_id: str, after: int = 0, patience_s: float = 60.0) -> Iterator[JobEvent]:
        """The job's events, past and live, until it is done.

        A dropped connection is opened again after the last event seen; nothing is lost or repeated. Gives up with
        TandemAPIError when the server cannot be reached for `patience_s`.
        """
        return self._follow(at("jobs", job_id, "events"), after, patience_s)

    def wait(self, job_id: str) -> Job:
        """The job once it has finished, however it ended."""
        for _ in self.follow(job_id):
            pass
        return self.job(job_id)

    # Datasets

    def datasets(self, *, limit: int | None = None) -> Iterator[Dataset]:
        return self._pages("/datasets", Dataset, limit, {})

    def dataset(self, name_or_id: str) -> Dataset:
        return Dataset.model_validate(self._json("GET", at("datasets", name_or_id)))

    def upload_dataset(
        self,
        file: Path,
        *,
        name: str,
        task: str,
        target: str | None = None,
        text: str | None = None,
        columns: Mapping[str, str] | None = None,
        size: tuple[int, int] | None = None,
        resize: str | None = None,
        channels: int | None = None,
        test_fraction: float | None = None,
        validation_fraction: float | None = None,
    ) -> Dataset:
        """Upload a `.zip`, `.npz`, `.csv`, `.jsonl` or `.parquet` file; it is streamed, never held in memory.

        `columns` says what columns of a table hold ('numeric', 'categorical', 'ignore') where their values look like
        something else. `size` (height, width), `resize` and `channels` are for images.
        """
        form = {"name": name, "task": task} | given(
            target=target,
            text=text,
            columns=None if columns is None else json.dumps(dict(columns)),
            size=None if size is None else f"{size[0]}x{size[1]}",
            resize=resize,
            channels=channels,
            test_fraction=test_fraction,
            validation_fraction=validation_fraction,
        )
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        with file.open("rb") as content:
            answer = self._json(
                "POST",
                "/datasets",
                data=form,
                files={"file": (file.name, content)},
                headers=headers,
                timeout=UPLOAD_TIMEOUT,
            )
        return Dataset.model_validate(answer)

    def delete_dataset(self, name_or_id: str) -> None:
        self._answer("DELETE", at("datasets", name_or_id))

    # Predictions

    def predict(
        self,
        model: str,
        inputs: Sequence[object],
        *,
        engine: str = "auto",
        top_k: int | None = None,
        returns: Sequence[str] = ("labels",),
        patience_s: float = 300.0,
    ) -> Predictions:
        """Predict with `name`, `name@version`, `name@alias` or a job's id, on engine torch, jax, openvino or auto.

        Each input is an image file (a Path, or its bytes), an array of raw pixels [H, W] or [H, W, C] from 0 to 255
        (NumPy or nested lists), or a row (a list of numbers, or a mapping by column name). A server that is still
        loading the model is asked again, until `patience_s` have gone by.
        """
        deadline = time.monotonic() + patience_s
        body = {"model": model, "inputs": [_input(item) for item in inputs], "engine": engine}
        body |= {"return": list(returns)} | given(top_k=top_k)
        while True:
            try:
                answer = self._json("POST", "/predict", json=body, timeout=PREDICT_TIMEOUT)
                return Predictions.model_validate(answer)
            except TandemAPIError as refused:
                if refused.code != "model_loading" or time.monotonic() > deadline:
                    raise
            time.sleep(LOADED_AGAIN_AFTER_S)

    # Operations

    def ready(self) -> bool:
        """Whether the server answers and everything it needs does too."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def workers(self) -> list[Worker]:
        """Those that have given a sign of life lately."""
        return list(self._pages("/workers", Worker, None, {}))


def _input(item: object) -> object:
    if isinstance(item, Path):
        item = item.read_bytes()
    if isinstance(item, bytes | bytearray | memoryview):
        return {"image": base64.b64encode(item).decode("ascii")}
    to_list = getattr(item, "tolist", None)
    return to_list() if callable(to_list) else item
