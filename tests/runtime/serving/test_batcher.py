"""The batcher by itself: what it joins, what it keeps apart, and what it never computes."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from runtime.serving.batcher import Batcher


@dataclass
class Number:
    """A job whose result is twice its value."""

    value: int
    rows: int = 1

    def __len__(self) -> int:
        return self.rows


class Recorder:
    """Doubles, keeps what came together, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.told: list[tuple[int, int]] = []
        self.go = threading.Event()
        self.go.set()
        self.runs = threading.Event()

    async def until_it_runs(self) -> None:
        """Wait for a batch to be with `run`."""
        await asyncio.to_thread(self.runs.wait, 60)

    def run(self, jobs: Sequence[Number]) -> list[int]:
        self.runs.set()
        self.go.wait(60)
        self.batches.append([job.value for job in jobs])
        return [2 * job.value for job in jobs]

    def batcher(self, *, max_rows: int = 8, max_wait: float = 0.0) -> Batcher[Number, int]:
        return Batcher(
            self.run, max_rows=max_rows, max_wait=max_wait, on_batch=lambda *told: self.told.append(told), name="test"
        )


def test_what_arrives_while_a_batch_runs_is_the_next_batch_and_in_order():
    recorder = Recorder()
    batcher = recorder.batcher(max_rows=4)

    async def program() -> list[int]:
        recorder.go.clear()
        first = asyncio.create_task(batcher.ask(Number(0)))
        await recorder.until_it_runs()
        others = [asyncio.create_task(batcher.ask(Number(2 * n))) for n in range(1, 8)]
        await asyncio.sleep(0)  # all have asked
        recorder.go.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(program()) == [0, 4, 8, 12, 16, 20, 24, 28]
    assert recorder.batches == [[0], [2, 4, 6, 8], [10, 12, 14]]
    assert recorder.told == [(1, 0), (4, 0), (3, 0)]


def test_requests_of_one_moment_are_joined_without_waiting():
    recorder = Recorder()
    batcher = recorder.batcher()

    async def program() -> None:
        await asyncio.gather(*(batcher.ask(Number(2 * n)) for n in range(5)))

    asyncio.run(program())

    assert recorder.batches == [[0, 2, 4, 6, 8]]


def test_a_lone_client_never_waits_and_company_waits_no_longer_than_allowed():
    recorder = Recorder()
    batcher = recorder.batcher(max_wait=0.3)

    async def timed(*values: int) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(batcher.ask(Number(value)) for value in values))
        return loop.time() - began

    async def program() -> tuple[float, float, float, float]:
        return await timed(2), await timed(4, 6), await timed(8), await timed(10)

    alone, together, after_company, alone_again = asyncio.run(program())

    assert max(alone, together, alone_again) < 0.25  # none of these waited
    assert 0.3 <= after_company < 1.0  # company was expected, and did not come


def test_a_full_batch_does_not_wait():
    recorder = Recorder()
    batcher = recorder.batcher(max_rows=2, max_wait=30.0)

    async def program() -> None:
        for _ in range(3):
            await asyncio.wait_for(asyncio.gather(batcher.ask(Number(2)), batcher.ask(Number(4))), 60)

    asyncio.run(program())

    assert recorder.batches == [[2, 4]] * 3


def test_a_job_larger_than_a_batch_is_a_batch_of_its_own():
    recorder = Recorder()
    batcher = recorder.batcher(max_rows=4)

    async def program() -> None:
        await asyncio.gather(*(batcher.ask(job) for job in (Number(2, rows=3), Number(4, rows=9), Number(6, rows=2))))

    asyncio.run(program())

    assert recorder.batches == [[2], [4], [6]]


def test_a_run_that_raises_fails_its_batch_and_not_the_next():
    calls = []

    def run(jobs: Sequence[Number]) -> list[int]:
        calls.append(len(jobs))
        if len(calls) == 1:
            raise MemoryError("no room")
        return [1] * len(jobs)

    batcher: Batcher[Number, int] = Batcher(run, max_rows=4, max_wait=0, on_batch=lambda *_: None, name="test")

    async def program() -> int:
        with pytest.raises(MemoryError):
            await batcher.ask(Number(2))
        return await batcher.ask(Number(2))

    assert asyncio.run(program()) == 1


def test_what_is_cancelled_before_its_turn_is_not_computed():
    """Lost otherwise: the time of the others, behind requests whose clients have left."""
    recorder = Recorder()
    batcher = recorder.batcher(max_rows=2)

    async def program() -> list[int | BaseException]:
        recorder.go.clear()
        first = asyncio.create_task(batcher.ask(Number(0)))
        await recorder.until_it_runs()
        asked = [asyncio.create_task(batcher.ask(Number(value))) for value in (2, 4, 6, 8)]
        await asyncio.sleep(0)  # all have asked
        asked[0].cancel()
        asked[2].cancel()
        await asyncio.sleep(0)
        recorder.go.set()
        return await asyncio.gather(first, *asked, return_exceptions=True)

    _, left, stayed, also_left, also_stayed = asyncio.run(program())

    assert isinstance(left, asyncio.CancelledError)
    assert isinstance(also_left, asyncio.CancelledError)
    assert (stayed, also_stayed) == (8, 16)
    assert recorder.batches == [[0], [4, 8]]
    assert sum(dropped for _, dropped in recorder.told) == 2


def test_when_all_are_cancelled_the_next_is_still_answered():
    recorder = Recorder()
    batcher = recorder.batcher()

    async def program() -> int:
        left = asyncio.create_task(batcher.ask(Number(2)))
        asyncio.get_running_loop().call_soon(left.cancel)
        with pytest.raises(asyncio.CancelledError):
            await left
        return await asyncio.wait_for(batcher.ask(Number(4)), 60)

    assert asyncio.run(program()) == 8
    assert recorder.batches[-1] == [4]
