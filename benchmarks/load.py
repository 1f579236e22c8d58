"""A load generator: the same HTTP request over and over on several connections, with each answer checked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """Requests per second, and percentiles of the time to an answer in ms."""

    rate: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.rate:7.0f} requests/s, p50 {self.p50_ms:6.2f} ms, p99 {self.p99_ms:6.2f} ms"


def load(url: str, body: bytes, check: Callable[[bytes], bool], *, connections: int, seconds: float) -> Load:
    """Post `body` to `url` for this long. Raises RuntimeError at an answer that `check` refuses."""
    return asyncio.run(_load(url, body, check, connections, seconds))


async def _load(
    url: str, body: bytes, check: Callable[[bytes], bool], connections: int, seconds: float
) -> Load:
    latencies: list[float] = []
    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(url, body, check, began + seconds, latencies))
    elapsed = perf_counter() - began
    percentiles = quantiles(latencies, n=100)
    return Load(len(latencies) / elapsed, percentiles[49] * 1000, percentiles[98] * 1000)


async def _connection(
    url: str, body: bytes, check: Callable[[bytes], bool], until: float, latencies: list[float]
) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = post(parts.netloc, parts.path, body)
    while (sent := perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readexactly(length(head))
        latencies.append(perf_counter() - sent)
        if not head.startswith(b"HTTP/1.1 200") or not check(answer):
            raise RuntimeError(f"a wrong answer: {head[:60]!r} {answer[:200]!r}")
    writer.close()


def post(host: str, path: str, body: bytes) -> bytes:
    """A request with JSON in its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def length(head: bytes) -> int:
    """Of the body that follows."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError("the answer has no Content-Length")
