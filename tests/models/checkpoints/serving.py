"""A publisher of checkpoints on this machine: plain files, and the few endpoints of the Hugging Face hub."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import parse_qs

RESOLVE = "/resolve/main/"


@dataclass
class Publisher:
    """`files` by their path; a hub's are `<repository>/resolve/main/<name>`.

    `breaks_after`: bytes after which a connection ends, once. `damaged`: paths whose first byte arrives changed.
    `pause_s`: how long an answer takes. `asked`: what was asked for, with the first byte that was wanted.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks_after: int | None = None
    damaged: set[str] = field(default_factory=set)
    pause_s: float = 0.0
    ranges: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)
    address: str = ""

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def content(self, path: str) -> bytes | None:
        data = self.files.get(path)
        return bytes([data[0] ^ 1]) + data[1:] if data and path in self.damaged else data

    def info(self, repository: str, names: list[str]) -> list[dict[str, Any]]:
        """What the hub tells of those of the files that it has; large ones lie in LFS."""
        found = []
        for name in names:
            data = self.files.get(f"{repository}{RESOLVE}{name}")
            if data is None:
                continue
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git}
            if name.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            found.append(entry)
        return found


class _Handler(BaseHTTPRequestHandler):
    publisher: Publisher

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        self._answer(whole=True)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        repository = self.path.removeprefix("/api/models/").removesuffix("/paths-info/main")
        if not any(path.startswith(f"{repository}{RESOLVE}") for path in self.publisher.files):
            self.send_error(404)
            return
        self._send(200, json.dumps(self.publisher.info(repository, form["paths"])).encode(), {})

    def _answer(self, *, whole: bool) -> None:
        path = self.path.removeprefix("/")
        sleep(self.publisher.pause_s)
        data = self.publisher.content(path)
        first = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if whole:
            self.publisher.asked.append((path, first))
        if data is None:
            self.send_error(404)
            return
        headers = {"ETag": f'"{hashlib.sha1(self.publisher.files[path]).hexdigest()}"'}
        if RESOLVE in path:
            headers["X-Repo-Commit"] = "0" * 40
        if not (first and self.publisher.ranges):
            self._send(200, data, headers, whole=whole)
        elif first >= len(data):
            self.send_error(416)
        else:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self._send(206, data[first:], headers, whole=whole)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, whole: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if whole:
            cut, self.publisher.breaks_after = self.publisher.breaks_after, None
            self.wfile.write(data[:cut])


@contextmanager
def publishing() -> Iterator[Publisher]:
    publisher = Publisher()
    handler = type("Handler", (_Handler,), {"publisher": publisher})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        publisher.address = f"http://127.0.0.1:{http.server_port}"
        try:
            yield publisher
        finally:
            http.shutdown()
            thread.join()
