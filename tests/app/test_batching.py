"""Batches: nobody waits for one to fill, nobody is answered with another's numbers, and who is at fault fails alone."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.prediction.batching import Batcher, Computed, Limits, RunnerPool
from models.errors import InvalidInput, Unavailable

LIMITS = Limits(rows=8, waiting=64)
SOON = float("inf")


def doubled(x: np.ndarray) -> np.ndarray:
    """Refuses a batch that has a negative number in it."""
    if (x < 0).any():
        raise InvalidInput("negative")
    return (2 * x).astype(np.float32)


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


class Gate:
    """Computes once it is let; notes the size of every batch."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.open.wait(10)
        self.sizes.append(len(x))
        return doubled(x)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def in_loop(scenario: Callable[..., Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await scenario()

    return asyncio.run(bounded())


def test_what_comes_in_one_turn_of_the_loop_is_computed_together() -> None:
    sizes = []

    def compute(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return doubled(x)

    async def scenario() -> list[Computed]:
        batcher = Batcher(compute, LIMITS)
        return await asyncio.gather(*(batcher.submit(rows(i, i + 0.5), SOON) for i in range(6)))

    found = in_loop(scenario)
    assert sizes == [8, 4]
    for i, computed in enumerate(found):
        assert computed.logits.tolist() == [[2 * i], [2 * i + 1]]
        assert computed.batch_size == (8 if i < 4 else 4)


def test_a_runner_that_is_free_takes_all_that_waits(executor: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def scenario() -> list[Computed]:
        batcher = Batcher(gate, LIMITS, pool=RunnerPool(executor, 1))
        first = batcher.submit(rows(0), SOON)
        await asyncio.sleep(0.05)  # it is being computed
        others = [batcher.submit(rows(i), SOON) for i in range(1, 12)]
        assert batcher.waiting_rows == 11
        gate.open.set()
        return await asyncio.gather(first, *others)

    found = in_loop(scenario)
    assert gate.sizes == [1, 8, 3]
    assert [computed.logits.item() for computed in found] == [2 * i for i in range(12)]


def test_of_two_runners_each_leaves_the_other_its_part(executor: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def scenario() -> list[Computed]:
        batcher = Batcher(gate, LIMITS, pool=RunnerPool(executor, 2))
        answers = [batcher.submit(rows(i), SOON) for i in range(14)]
        await asyncio.sleep(0.05)
        assert batcher.waiting_rows == 12  # both are busy with one each
        gate.open.set()
        return await asyncio.gather(*answers)

    found = in_loop(scenario)
    assert sorted(gate.sizes)[:2] == [1, 1]
    assert max(gate.sizes) == 6
    assert [computed.logits.item() for computed in found] == [2 * i for i in range(14)]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_request_at_fault_fails_alone(threads: int, executor: ThreadPoolExecutor) -> None:
    async def scenario() -> list[Any]:
        pool = RunnerPool(executor, threads) if threads else None
        batcher = Batcher(doubled, LIMITS, pool=pool)
        values = [1, 2, -3, 4, -5, 6]
        return await asyncio.gather(
            *(batcher.submit(rows(value), SOON) for value in values), return_exceptions=True
        )

    found = in_loop(scenario)
    assert [isinstance(one, InvalidInput) for one in found] == [False, False, True, False, True, False]
    assert [one.logits.item() for one in found if isinstance(one, Computed)] == [2, 4, 8, 12]


def test_a_request_larger_than_a_batch_is_computed_by_itself() -> None:
    async def scenario() -> tuple[Computed, Computed]:
        batcher = Batcher(doubled, LIMITS)
        return await asyncio.gather(batcher.submit(rows(*range(20)), SOON), batcher.submit(rows(7), SOON))

    large, small = in_loop(scenario)
    assert (large.batch_size, small.batch_size) == (20, 1)
    assert large.logits[:, 0].tolist() == [2 * i for i in range(20)]


def test_a_full_queue_refuses_and_what_waits_is_still_answered(executor: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def scenario() -> list[Computed]:
        batcher = Batcher(gate, Limits(rows=8, waiting=4), pool=RunnerPool(executor, 1))
        first = batcher.submit(rows(0), SOON)
        waiting = [batcher.submit(rows(i, i), SOON) for i in (1, 2)]
        with pytest.raises(Unavailable, match="4 inputs wait") as refused:
            batcher.submit(rows(9), SOON)
        assert refused.value.specific_code == "too_many_predictions"
        gate.open.set()
        found = await asyncio.gather(first, *waiting)
        await batcher.submit(rows(9), SOON)
        return found

    assert len(in_loop(scenario)) == 3


def test_a_request_whose_turn_comes_too_late_is_not_computed(executor: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def scenario() -> None:
        batcher = Batcher(gate, LIMITS, pool=RunnerPool(executor, 1))
        first = batcher.submit(rows(0), SOON)
        late = batcher.submit(rows(1), time.perf_counter() + 0.01)
        in_time = batcher.submit(rows(2), SOON)
        await asyncio.sleep(0.05)
        gate.open.set()
        with pytest.raises(Unavailable) as refused:
            await late
        assert refused.value.specific_code == "prediction_timeout"
        await asyncio.gather(first, in_time)

    in_loop(scenario)
    assert gate.sizes == [1, 1]


def test_a_client_that_goes_is_not_computed(executor: ThreadPoolExecutor) -> None:
    gate = Gate()

    async def scenario() -> None:
        batcher = Batcher(gate, LIMITS, pool=RunnerPool(executor, 1))
        first = batcher.submit(rows(0), SOON)
        await asyncio.sleep(0.05)
        gone, stays = batcher.submit(rows(1), SOON), batcher.submit(rows(2), SOON)
        gone.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting_rows == 1
        first.cancel()  # it is being computed: nobody is there to take the answer
        gate.open.set()
        assert (await stays).logits.item() == 4

    in_loop(scenario)
    assert gate.sizes == [1, 1]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_batch_is_counted_once_whoever_of_it_has_gone(leaves: bool, executor: ThreadPoolExecutor) -> None:
    async def scenario() -> list[bool]:
        def slow(x: np.ndarray) -> np.ndarray:
            time.sleep(0.1)
            return doubled(x)

        batcher = Batcher(slow, LIMITS, pool=RunnerPool(executor, 1))
        blocking = batcher.submit(rows(0), SOON)
        first, *others = (batcher.submit(rows(value), SOON) for value in (1, 2, 3))
        await blocking
        assert not first.done()  # being computed
        if leaves:
            first.cancel()
        found = await asyncio.gather(*others) if leaves else await asyncio.gather(first, *others)
        return [one.leads for one in found]

    assert in_loop(scenario) == [True, False, False][: 2 if leaves else 3]


def test_models_share_the_runners_in_turn(executor: ThreadPoolExecutor) -> None:
    order: list[str] = []

    async def scenario() -> None:
        gate = threading.Event()
        pool = RunnerPool(executor, 1)

        def named(name: str) -> Callable[[np.ndarray], np.ndarray]:
            def compute(x: np.ndarray) -> np.ndarray:
                gate.wait(10)
                order.append(name)
                return x

            return compute

        busy, other = (
            Batcher(named(name), Limits(rows=1, waiting=99), pool=pool) for name in ("busy", "other")
        )
        answers = [busy.submit(rows(i), SOON) for i in range(6)]
        answers.append(other.submit(rows(0), SOON))
        gate.set()
        await asyncio.gather(*answers)

    in_loop(scenario)
    assert order.index("other") <= 2
    assert len(order) == 7
