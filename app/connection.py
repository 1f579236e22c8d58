"""HTTP as the Python client needs it: errors, pages, streams of events, downloads."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from app.replies import JobEvent, Reply

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
"""The server sends a comment every 15 s on an idle stream; three missed ones mean that the connection is dead."""

R = TypeVar("R", bound=Reply)


def at(*parts: str | int) -> str:
    """The path of these parts, whatever characters are in them."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


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


class Connection:
    """A connection to a Tandem server."""

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

    def _follow(self, path: str, after: int, patience_s: float) -> Iterator[JobEvent]:
        """The events there, past and live, until `done`. A dropped connection is opened again after the last one."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                for event in self._stream(path, after):
                    after = event.id
                    deadline = time.monotonic() + patience_s
                    yield event
                    if event.type == "done":
                        return
            except httpx.TransportError as problem:
                if time.monotonic() > deadline:
                    raise _unreachable(self.url, problem) from problem
            time.sleep(0.5)

    def _stream(self, path: str, after: int) -> Iterator[JobEvent]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            yield from _events(answer.iter_lines())

    def _save(
        self, url: str, file: Path, *, method: str = "GET", **request: Any
    ) -> tuple[Path, Mapping[str, str]]:
        """Write what is there to `file`, whole or not at all, checked by its hash; and the answer's headers."""
        unfinished = file.with_name(file.name + ".part")
        try:
            with unfinished.open("wb") as out:
                found, headers = self._download(url, out, method=method, **request)
            if headers["ETag"] != f'"{found}"':
                raise TandemAPIError(f"{file.name} arrived damaged: sha256 {found}, not {headers['ETag']}.")
            return unfinished.replace(file), headers
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
        query = given(**wanted)
        while limit is None or limit > 0:
            page = self._json("GET", path, params={"limit": min(limit or 200, 200)} | query)
            yield from page["data"]
            if not page["has_more"]:
                return
            limit = limit and limit - len(page["data"])
            query["after"] = page["last_id"]


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


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
