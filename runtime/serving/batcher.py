"""Run requests that wait at the same time as one batch. Knows nothing of pictures, networks or HTTP."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

J = TypeVar("J", bound=Sized)
R = TypeVar("R")


class Batcher(Generic[J, R]):
    """Runs jobs in a thread, in batches, one batch at a time, in the order in which they came.

    A batch is closed when it is full, or when its first job has waited for `max_wait` seconds, or at once where a wait
    is not worth it: where the batch before was of one job. So a lone client never waits, and a busy server fills its
    batches. What arrives while a batch runs is the next one. All methods belong to the event loop's thread.

    Args:
        run: computes a batch, in the thread: one result for each job.
        max_rows: the most rows in a batch, where `len(job)` is a job's; a larger job is a batch of its own.
        max_wait: seconds.
        on_batch: told of each batch that is sent off: its rows, and how many jobs were cancelled since the last.
        name: the thread's.
    """

    def __init__(
        self,
        run: Callable[[Sequence[J]], Sequence[R]],
        *,
        max_rows: int,
        max_wait: float,
        on_batch: Callable[[int, int], None],
        name: str,
    ) -> None:
        self._run = run
        self._max_rows, self._max_wait = max_rows, max_wait
        self._on_batch = on_batch
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: deque[tuple[J, asyncio.Future[R], float]] = deque()
        self._rows = 0
        self._running = False
        self._company = False  # whether jobs have come together lately
        self._timer: asyncio.Handle | None = None
        self._closing_batch = False  # `_send_off` is scheduled for the next turn of the loop

    async def ask(self, job: J) -> R:
        """Return the job's result, or raise what its batch raised. If this is cancelled in time, it is not computed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((job, future, loop.time()))
        self._rows += len(job)
        self._consider(loop)
        try:
            return await future
        finally:
            del future  # its exception holds this frame: a circle that would keep the job until it is collected

    def first(self, work: Callable[[], None]) -> None:
        """Do something in the batches' own thread, and wait for it; for any thread but the loop's."""
        self._pool.submit(work).result()

    def close(self) -> None:
        """Take no more batches; one that is running is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _consider(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the next batch is sent off when it should be."""
        if self._running or self._closing_batch or not self._waiting:
            return
        if self._rows >= self._max_rows or not self._company or not self._max_wait:
            if self._timer is not None:
                self._timer.cancel()
            # Not this instant: what else has arrived in this turn of the loop comes along.
            self._timer, self._closing_batch = loop.call_soon(self._send_off), True
        elif self._timer is None:
            self._timer = loop.call_at(self._waiting[0][2] + self._max_wait, self._send_off)

    def _send_off(self) -> None:
        self._timer, self._closing_batch = None, False
        batch: list[tuple[J, asyncio.Future[R]]] = []
        rows = dropped = 0
        while self._waiting and (not batch or rows + len(self._waiting[0][0]) <= self._max_rows):
            job, future, _ = self._waiting.popleft()
            self._rows -= len(job)
            if future.cancelled():
                dropped += 1
                continue
            batch.append((job, future))
            rows += len(job)
        self._on_batch(rows, dropped)
        if batch:
            self._running = True
            self._pool.submit(self._compute, asyncio.get_running_loop(), batch)

    def _compute(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[J, asyncio.Future[R]]]) -> None:
        """In the thread."""
        results: Sequence[R] | Exception
        try:
            results = self._run([job for job, _ in batch])
        except Exception as error:
            results = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits any more
            loop.call_soon_threadsafe(self._deliver, batch, results)

    def _deliver(self, batch: list[tuple[J, asyncio.Future[R]]], results: Sequence[R] | Exception) -> None:
        self._running = False
        self._company = len(batch) > 1
        for index, (_, future) in enumerate(batch):
            if future.done():
                continue
            if isinstance(results, Exception):
                future.set_exception(results)
            else:
                future.set_result(results[index])
        self._consider(asyncio.get_running_loop())
