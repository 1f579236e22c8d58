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
import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from app.replies import Dataset, Export, Job, JobEvent, ModelVersion, Predictions, Reply

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
"""The server sends a comment every 15 s on an idle stream; three missed ones mean that the connection is dead."""
UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
EXPORT_TIMEOUT = httpx.Timeout(900.0, connect=5.0)

R = TypeVar("R", bound=Reply)


class TandemAPIError(Exception):
    """The server refused, or did not answer (then `status` is None).

    `detail` is one sentence for people; `errors` holds `{pointer, code, detail}` for each field that was wrong.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        self.request_id = request_id

    @property
    def pointer(self) -> str | None:
        """Where the first wrong field is, as a JSON pointer into the body that was sent."""
        return self.errors[0].get("pointer") if self.errors else None

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        fields = (f"{error.get('pointer')}: {error.get('detail')}" for error in self.errors)
        return "; ".join(fields) if self.errors else self.detail


class Tandem:
    """A connection to a Tandem server. Safe to share between threads; close it, or use it in a `with` statement.

    Every method raises TandemAPIError when the server refuses or cannot be reached.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport or httpx.HTTPTransport(retries=2),
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Jobs

    def create_job(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Queue a training job. `spec` is the body of `POST /jobs`; sending the same key twice makes one job."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Job.model_validate(self._json("POST", "/jobs", json=dict(spec), headers=headers))

    def job(self, job_id: str) -> Job:
        return Job.model_validate(self._json("GET", f"/jobs/{job_id}"))

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
        return Job.model_validate(self._json("POST", f"/jobs/{job_id}/cancel"))

    def retry(self, job_id: str) -> Job:
        """A new job that goes on from the last checkpoint of a failed or cancelled one."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return Job.model_validate(self._json("POST", f"/jobs/{job_id}/retry", headers=headers))

    def metrics(self, job_id: str, points: int | None = None) -> dict[str, list[Any]]:
        """The job's metrics as columns, thinned to about `points` rows."""
        columns: dict[str, list[Any]] = self._json(
            "GET", f"/jobs/{job_id}/metrics", params=_given(points=points)
        )
        return columns

    def logs(self, job_id: str) -> str:
        return self._answer("GET", f"/jobs/{job_id}/logs").text

    def follow(self, job_id: str, after: int = 0, patience_s: float = 60.0) -> Iterator[JobEvent]:
        """The job's events, past and live, until it is done.

        A dropped connection is opened again after the last event seen; nothing is lost or repeated. Gives up with
        TandemAPIError when the server cannot be reached for `patience_s`.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                for event in self._stream(job_id, after):
                    after = event.id
                    deadline = time.monotonic() + patience_s
                    yield event
                    if event.type == "done":
                        return
            except httpx.TransportError as problem:
                if time.monotonic() > deadline:
                    raise _unreachable(self.url, problem) from problem
            time.sleep(0.5)

    def wait(self, job_id: str) -> Job:
        """The job once it has finished, however it ended."""
        for _ in self.follow(job_id):
            pass
        return self.job(job_id)

    def _stream(self, job_id: str, after: int) -> Iterator[JobEvent]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        url = f"/jobs/{job_id}/events"
        with self._http.stream("GET", url, headers=headers, timeout=STREAM_TIMEOUT) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            yield from _events(answer.iter_lines())

    # Datasets

    def datasets(self, *, limit: int | None = None) -> Iterator[Dataset]:
        return self._pages("/datasets", Dataset, limit, {})

    def dataset(self, name_or_id: str) -> Dataset:
        return Dataset.model_validate(self._json("GET", f"/datasets/{name_or_id}"))

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
    ) -> Dataset:
        """Upload a `.zip`, `.npz`, `.csv`, `.jsonl` or `.parquet` file; it is streamed, never held in memory.

        `columns` says what columns of a table hold ('numeric', 'categorical', 'ignore') where their values look like
        something else. `size` (height, width), `resize` and `channels` are for images.
        """
        form = {"name": name, "task": task} | _given(
            target=target,
            text=text,
            columns=None if columns is None else json.dumps(dict(columns)),
            size=None if size is None else f"{size[0]}x{size[1]}",
            resize=resize,
            channels=channels,
            test_fraction=test_fraction,
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
        self._answer("DELETE", f"/datasets/{name_or_id}")

    # Predictions

    def predict(
        self,
        model: str,
        inputs: Sequence[object],
        *,
        engine: str = "auto",
        top_k: int | None = None,
        returns: Sequence[str] = ("labels",),
    ) -> Predictions:
        """Predict with `name`, `name@version`, `name@alias` or a job's id, on engine torch, jax, openvino or auto.

        Each input is an image file (a Path, or its bytes), an array of raw pixels [H, W] or [H, W, C] from 0 to 255
        (NumPy or nested lists), or a row (a list of numbers, or a mapping by column name).
        """
        body = {"model": model, "inputs": [_input(item) for item in inputs], "engine": engine}
        body |= {"return": list(returns)} | _given(top_k=top_k)
        return Predictions.model_validate(self._json("POST", "/predict", json=body))

    # Models

    def models(self, *, limit: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Registered models by name, each with its versions."""
        return self._raw_pages("/models", limit, {})

    def model(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._json("GET", f"/models/{name}")
        return found

    def model_version(self, name: str, version: int) -> ModelVersion:
        return ModelVersion.model_validate(self._json("GET", f"/models/{name}/versions/{version}"))

    def import_model(
        self,
        file: Path,
        *,
        name: str,
        model: Mapping[str, Any] | None = None,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        preprocess: Mapping[str, Any] | None = None,
        tokenizer: Path | None = None,
    ) -> ModelVersion:
        """Import a `.safetensors` or `.pth` checkpoint as the next version of `name`; it is streamed.

        `model` is the architecture with its options, as in a job; a file that Tandem wrote needs none. `tokenizer` is
        the tokenizer.json or vocab.txt of a network for texts.
        """
        parts = _given(model=model, classes=classes, columns=columns, preprocess=preprocess)
        form = {"name": name} | _given(task=task) | {key: json.dumps(value) for key, value in parts.items()}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        with ExitStack() as opened:
            paths = _given(file=file, tokenizer=tokenizer)
            files = {part: (path.name, opened.enter_context(path.open("rb"))) for part, path in paths.items()}
            answer = self._json(
                "POST", "/models", data=form, files=files, headers=headers, timeout=UPLOAD_TIMEOUT
            )
        return ModelVersion.model_validate(answer)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._answer("PUT", f"/models/{name}/aliases/{alias}", json={"version": version})

    def delete_alias(self, name: str, alias: str) -> None:
        self._answer("DELETE", f"/models/{name}/aliases/{alias}")

    def download_weights(self, name: str, version: int, file: Path) -> Path:
        """Write the version's safetensors file (torch `state_dict` names) to `file`, checked by its hash."""
        expected = self.model_version(name, version).sha256
        unfinished = file.with_name(file.name + ".part")
        url = f"/models/{name}/versions/{version}/weights"
        try:
            with unfinished.open("wb") as out:
                found, _ = self._download(url, out)
            if found != expected:
                raise TandemAPIError(f"{name}@{version} arrived damaged: sha256 {found}, not {expected}.")
            return unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)

    def export_model(self, name: str, version: int, file: Path, *, format: str) -> Export:
        """Write the version in this format (onnx, stablehlo or torch-export) to `file`, checked by its hash.

        The server compares what it sends with the model; making it can take minutes.
        """
        url = f"/models/{name}/versions/{version}/export"
        unfinished = file.with_name(file.name + ".part")
        try:
            with unfinished.open("wb") as out:
                found, headers = self._download(
                    url, out, method="POST", json={"format": format}, timeout=EXPORT_TIMEOUT
                )
            if headers["ETag"] != f'"{found}"':
                raise TandemAPIError(
                    f"{name}@{version} arrived damaged: sha256 {found}, not {headers['ETag']}."
                )
            return Export(unfinished.replace(file), float(headers["X-Tandem-Largest-Difference"]))
        finally:
            unfinished.unlink(missing_ok=True)

    def _download(
        self, url: str, out: Any, *, method: str = "GET", **request: Any
    ) -> tuple[str, Mapping[str, str]]:
        """The SHA-256 of what was written, and the answer's headers."""
        digest = hashlib.sha256()
        try:
            with self._http.stream(method, url, **request) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                for chunk in answer.iter_bytes():
                    digest.update(chunk)
                    out.write(chunk)
        except httpx.TransportError as problem:
            raise _unreachable(self.url, problem) from problem
        return digest.hexdigest(), answer.headers

    # Operations

    def ready(self) -> bool:
        """Whether the server answers and everything it needs does too."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def workers(self) -> list[Mapping[str, Any]]:
        return list(self._raw_pages("/workers", None, {}))

    # HTTP

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as problem:
            raise _unreachable(self.url, problem) from problem
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _json(self, method: str, path: str, **request: Any) -> Any:
        return self._answer(method, path, **request).json()

    def _pages(
        self, path: str, kind: type[R], limit: int | None, wanted: Mapping[str, str | None]
    ) -> Iterator[R]:
        return (kind.model_validate(item) for item in self._raw_pages(path, limit, wanted))

    def _raw_pages(
        self, path: str, limit: int | None, wanted: Mapping[str, str | None]
    ) -> Iterator[Mapping[str, Any]]:
        query = _given(**wanted)
        while limit is None or limit > 0:
            page = self._json("GET", path, params={"limit": min(limit or 200, 200)} | query)
            yield from page["data"]
            if not page["has_more"]:
                return
            limit = limit and limit - len(page["data"])
            query["after"] = page["last_id"]


def _given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _input(item: object) -> object:
    if isinstance(item, Path):
        item = item.read_bytes()
    if isinstance(item, bytes | bytearray | memoryview):
        return {"image": base64.b64encode(item).decode("ascii")}
    to_list = getattr(item, "tolist", None)
    return to_list() if callable(to_list) else item


def _events(lines: Iterator[str]) -> Iterator[JobEvent]:
    """Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html reads them."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif "data" in fields and "id" in fields:
            data = json.loads(fields["data"])
            yield JobEvent(id=int(fields["id"]), type=fields.get("event", "message"), data=data)
            fields = {}
        else:
            fields = {}


def _refusal(answer: httpx.Response) -> TandemAPIError:
    """The error that a problem+json answer (or, from a proxy, any other) stands for."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return TandemAPIError(f"{answer.status_code} {answer.reason_phrase}", status=answer.status_code)
    return TandemAPIError(
        problem.get("detail") or problem.get("title") or answer.reason_phrase,
        status=answer.status_code,
        code=problem.get("code"),
        errors=problem.get("errors") or (),
        request_id=problem.get("request_id"),
    )


def _unreachable(url: str, problem: httpx.TransportError) -> TandemAPIError:
    return TandemAPIError(f"Tandem at {url} does not answer ({str(problem) or type(problem).__name__}).")
