"""Decode the next batch while the session runs this one, where that gains; at most two batches are in memory."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

# A chunk is long enough that handing it over costs nothing, short enough to share a batch among the threads.
CHUNK = 16
FEW = 8  # pictures that are decoded sooner than a thread is started
# At most one thread decodes pictures that take it less than this, and all of them any others. Most of a small file's
# time goes by in Python, under Python's lock, over which several threads lose more than they gain: of 28x28 PNGs, on
# two idle cores, two threads took 260 us each, one 100 us. A larger picture's goes by in Pillow, outside of the lock.
SMALL_SECONDS = 0.001


def decoded_batches(
    sources: Iterable[S], batch_size: int, decode: Callable[[list[S]], list[T]], workers: int, *, spare: bool
) -> Generator[list[T], None, None]:
    """Yield `decode(sources)`, of one or more calls, for each `batch_size` sources, in order.

    The sources are drawn in the caller's thread, at most one batch ahead of what is yielded, and none ahead in small
    batches, or where nobody decodes ahead: a live source gets each answer before it is asked for more. Where drawing
    one raises, what came before is yielded first. The threads of a generator that is closed early end by themselves,
    after at most one chunk each; whatever is raised here or thrown in waits for them.

    Args:
        workers: how many threads may decode pictures that take long.
        spare: whether the caller leaves a core to a thread. If not, it decodes quick pictures itself: a thread takes
            its time from what the caller does meanwhile, and more, since a session's threads wait for each other.
    """
    waiting = iter(sources)
    group, failure = _draw(waiting, batch_size)
    if batch_size <= FEW or len(group) <= FEW:
        while group:
            yield decode(group)
            group, failure = ([], failure) if failure else _draw(waiting, batch_size)
    else:
        from concurrent.futures import ThreadPoolExecutor  # a single picture does not wait for this import

        # Threads are started when first used: of these pools at most one, unless the pictures grow.
        one, many = (ThreadPoolExecutor(count, thread_name_prefix="decode") for count in (1, workers))

        def timed(chunk: list[S]) -> tuple[list[T], float]:
            started = time.perf_counter()
            return decode(chunk), time.perf_counter() - started

        def begin() -> list[Callable[[], tuple[list[T], float]]]:
            if pool is None:
                return [functools.partial(timed, group)] if group else []
            chunks = [group[start : start + CHUNK] for start in range(0, len(group), CHUNK)]
            return [pool.submit(timed, chunk).result for chunk in chunks]

        wait = True
        try:
            head = decode(group[:1])  # apart: the first of its format waits for imports
            few, seconds = timed(group[1:FEW])
            head += few
            quick = one if spare else None
            pool = quick if seconds < SMALL_SECONDS * len(few) else many
            group = group[FEW:]
            pending = begin()
            while head or pending:
                chunks = [finish() for finish in pending]
                ready = head + [decoded for chunk, _ in chunks for decoded in chunk]
                if pool is quick and sum(seconds for _, seconds in chunks) > SMALL_SECONDS * len(ready):
                    pool = many  # and stays so: how long a picture takes among others does not tell how long alone
                nobody = pool is None  # decodes meanwhile, so that a slow source need not hold this batch up
                if nobody:
                    yield ready
                head, (group, failure) = [], ([], failure) if failure else _draw(waiting, batch_size)
                pending = begin()
                if not nobody:
                    yield ready
        except GeneratorExit:
            wait = False  # this may be Python's collector, in one of these threads or while a lock is held
            raise
        finally:
            one.shutdown(wait, cancel_futures=True)
            many.shutdown(wait, cancel_futures=True)
    if failure:
        raise failure


def _draw(waiting: Iterator[S], count: int) -> tuple[list[S], Exception | None]:
    """Return the next sources, fewer at the end, and what drawing them raised."""
    group: list[S] = []
    try:
        group.extend(itertools.islice(waiting, count))
    except Exception as error:
        return group, error
    return group, None
