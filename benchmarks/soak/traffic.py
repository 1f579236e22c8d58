"""Requests of all kinds to a server, each with what its answer must be."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load import length, post

TOLERANCE = 2e-3


@dataclass(frozen=True)
class Asked:
    """A request, and why an answer (status, body) to it is wrong; None if it is right."""

    path: str
    body: bytes
    wrong: Callable[[int, bytes], str | None]


@dataclass
class Seen:
    """What came back: counts of statuses, seconds of those that were answered 200, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    hung_up: int = 0


def refused(path: str, body: Mapping[str, Any], status: int) -> Asked:
    """A request that is wrong itself."""

    def wrong(found: int, answer: bytes) -> str | None:
        problem = json.loads(answer)
        return (
            None
            if found == status and problem["detail"]
            else f"{found} instead of {status}: {answer[:200]!r}"
        )

    return Asked(path, json.dumps(body).encode(), wrong)


def predicted(body: Mapping[str, Any], expected: Mapping[int, Sequence[float]]) -> Asked:
    """One input; `expected` are its logits by the version that answers."""

    def wrong(status: int, answer: bytes) -> str | None:
        if status != 200:
            return f"{status}: {answer[:200]!r}"
        found = json.loads(answer)
        version = found["model"]["version"]
        return _difference(found["predictions"][0]["logits"], expected.get(version))

    return Asked("/predict", json.dumps({**body, "return": ["logits"]}).encode(), wrong)


def inferred(model: str, tensor: Mapping[str, Any], expected: Mapping[int, Sequence[float]]) -> Asked:
    """The same by the Open Inference Protocol."""

    def wrong(status: int, answer: bytes) -> str | None:
        if status != 200:
            return f"{status}: {answer[:200]!r}"
        found = json.loads(answer)
        return _difference(found["outputs"][0]["data"], expected.get(int(found["model_version"])))

    body = {"inputs": [tensor], "outputs": [{"name": "logits"}]}
    return Asked(f"/v2/models/{model}/infer", json.dumps(body).encode(), wrong)


def _difference(found: Sequence[float], expected: Sequence[float] | None) -> str | None:
    if expected is None:
        return "the answer of a version that nobody asked"
    largest = max(1.0, *map(abs, expected))
    if all(abs(one - other) <= TOLERANCE * largest for one, other in zip(found, expected, strict=True)):
        return None
    return f"{found} instead of {expected}"


async def traffic(url: str, asked: Sequence[Asked], connections: int, seconds: float, seed: int = 0) -> Seen:
    """Send these, in random order, over so many connections for so long. Some clients hang up instead of waiting, and
    most connect anew now and then."""
    seen = Seen()
    until = perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_client(url, asked, until, random.Random(seed * 10_007 + number), seen))
    return seen


async def _client(url: str, asked: Sequence[Asked], until: float, chance: random.Random, seen: Seen) -> None:
    parts = urlsplit(url)
    while perf_counter() < until:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(chance.randint(1, 200)):
            one = chance.choice(asked)
            began = perf_counter()
            if began >= until:
                break
            writer.write(post(parts.netloc, one.path, one.body))
            if chance.random() < 0.002:
                seen.hung_up += 1
                break
            status, answer = await _answer(reader)
            seen.statuses[status] += 1
            if status == 200:
                seen.seconds.append(perf_counter() - began)
            if (problem := one.wrong(status, answer)) is not None and len(seen.wrong) < 100:
                seen.wrong.append(f"{one.path} {one.body[:80]!r}: {problem}")
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1]), await reader.readexactly(length(head))
