"""Requests for one model, computed together: whoever is free takes what waits, and nobody waits for a batch to fill.

Shape suffixes: B batch, K outputs.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import structlog

from models.errors import Unavailable

log = structlog.get_logger("app.prediction")

Compute = Callable[[np.ndarray], np.ndarray]
"""Raw samples to logits, float32 [B, K]."""
Join = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Samples of several requests as one batch."""


class Computed(NamedTuple):
    """A request's logits, float32 [B, K], and the batch that they came from; one request of a batch `leads`."""

    logits: np.ndarray
    queue_s: float
    compute_s: float
    batch_size: int
    leads: bool


@dataclass(frozen=True)
class Limits:
    """rows: the most in one batch, unless a single request has more. waiting: the most rows in the queue."""

    rows: int
    waiting: int


Outcome = Computed | Exception


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue or being computed. `deadline` and `since` are `perf_counter`'s; `tell` gets its outcome on
    the event loop, unless whoever waits for it has gone."""

    x: np.ndarray
    tell: Callable[[Outcome], None]
    limits: Limits
    since: float
    deadline: float
    gone: bool = False


class Batcher:
    """The queue of one model on one engine. Used on the event loop only.

    With `pool` None it computes on the loop itself, once for all that came within a turn of it: for models that take
    less time than handing them over would.
    """

    def __init__(
        self,
        compute: Compute,
        limits: Limits,
        *,
        pool: "RunnerPool | None" = None,
        join: Join = np.concatenate,
    ) -> None:
        self._compute = compute
        self.limits = limits
        self._pool = pool
        self._join = join
        self._queue: deque[Waiting] = deque()
        self._rows = 0
        self._asked = False

    @property
    def is_inline(self) -> bool:
        """Whether it computes on the event loop."""
        return self._pool is None

    @property
    def waiting_rows(self) -> int:
        return self._rows

    def submit(
        self, x: np.ndarray, deadline: float, limits: Limits | None = None
    ) -> asyncio.Future[Computed]:
        """As `enqueue`; who cancels the future has gone. It raises what computing these samples alone raises, or
        Unavailable when its turn did not come before the deadline."""
        answer: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()
        waiting = self.enqueue(x, deadline, partial(_resolve, answer), limits)
        answer.add_done_callback(lambda answer: self.leave(waiting) if answer.cancelled() else None)
        return answer

    def enqueue(
        self, x: np.ndarray, deadline: float, tell: Callable[[Outcome], None], limits: Limits | None = None
    ) -> Waiting:
        """Have the request computed, and told its outcome. `limits` are those of the model that it asks, where others
        have the same weights. Raises Unavailable when the queue is full."""
        limits = limits or self.limits
        if self._rows + len(x) > limits.waiting and self._queue:
            raise Unavailable(
                f"{self._rows} inputs wait for this model already. Try again shortly.",
                code="too_many_predictions",
            )
        waiting = Waiting(x, tell, limits, perf_counter(), deadline)
        self._queue.append(waiting)
        self._rows += len(x)
        if not self._asked:
            self._asked = True
            if self._pool is None:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._turn, loop)
            else:
                self._pool.want(self)
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """Whoever waits for this has gone: it leaves the queue, unless it is being computed."""
        waiting.gone = True
        if waiting in self._queue:
            self._queue.remove(waiting)
            self._rows -= len(waiting.x)

    def take(self, runners: int = 1) -> list[Waiting]:
        """What is computed next: the oldest that fit into a batch; nobody who has gone, and nobody too late. Of
        several runners each leaves the others their part of what waits."""
        batch: list[Waiting] = []
        rows, now = 0, perf_counter()
        share = -(-self._rows // runners)
        while self._queue and (not batch or rows + len(self._queue[0].x) <= min(share, batch[0].limits.rows)):
            one = self._queue.popleft()
            self._rows -= len(one.x)
            if now > one.deadline:
                deliver([one], [_too_late(now - one.since)])
                continue
            batch.append(one)
            rows += len(one.x)
        self._asked = bool(self._queue)
        return batch

    @property
    def wants_more(self) -> bool:
        """Whether something is left in the queue after `take`."""
        return self._asked

    def run(self, batch: Sequence[Waiting]) -> list[Outcome]:
        """Compute a batch, in any thread. One that fails as a whole is computed request by request: whoever is at
        fault fails alone."""
        began = perf_counter()
        try:
            together = batch[0].x if len(batch) == 1 else self._join([one.x for one in batch])
            logits_BK = self._compute(together)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the request's answer
            return [error] if len(batch) == 1 else [self.run([one])[0] for one in batch]
        compute_s = perf_counter() - began
        found: list[Outcome] = []
        start = 0
        for one in batch:
            end = start + len(one.x)
            queue_s, rows = began - one.since, len(logits_BK)
            found.append(Computed(logits_BK[start:end], queue_s, compute_s, rows, start == 0))
            start = end
        return found

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if batch := self.take():
            deliver(batch, self.run(batch))
        if self._asked:  # others have their turn first
            loop.call_soon(self._turn, loop)


class RunnerPool:
    """A few threads that compute batches of all models, each model in its turn. Used on the event loop only."""

    def __init__(self, executor: Executor, runners: int) -> None:
        self._executor = executor
        self._free = self._runners = runners
        self._ready: deque[Batcher] = deque()

    def want(self, batcher: Batcher) -> None:
        """This model has something in its queue."""
        self._ready.append(batcher)
        self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and self._ready:
            batcher = self._ready.popleft()
            batch = batcher.take(self._runners)
            if batcher.wants_more:
                self._ready.append(batcher)
            if batch:
                self._free -= 1
                self._executor.submit(self._run, loop, batcher, batch)

    def _run(self, loop: asyncio.AbstractEventLoop, batcher: Batcher, batch: Sequence[Waiting]) -> None:
        """In a thread; wakes the loop once for the whole batch."""
        outcomes = batcher.run(batch)
        loop.call_soon_threadsafe(self._done, batch, outcomes)

    def _done(self, batch: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
        self._free += 1
        self._start()  # before anybody is answered: the device goes on while answers are written
        deliver(batch, outcomes)


def deliver(batch: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    """Whatever goes wrong with one answer, the others are given theirs."""
    leads = False
    for one, outcome in zip(batch, outcomes, strict=True):
        if leads and isinstance(outcome, Computed):
            outcome, leads = outcome._replace(leads=True), False
        if one.gone:  # somebody else counts for the batch then
            leads = leads or (isinstance(outcome, Computed) and outcome.leads)
            continue
        try:
            one.tell(outcome)
        except Exception:
            log.exception("answer_not_given")


def _resolve(answer: asyncio.Future[Computed], outcome: Outcome) -> None:
    if answer.done():  # cancelled within this turn of the loop
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _too_late(waited_s: float) -> Unavailable:
    return Unavailable(
        f"Its turn did not come within {waited_s:.1f} s. Try again when the server has less to do.",
        code="prediction_timeout",
    )
