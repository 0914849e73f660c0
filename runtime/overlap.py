"""Decode the next batch while the session runs this one, in order, with at most two batches in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

S = TypeVar("S")
T = TypeVar("T")

# A chunk is long enough that handing it over costs nothing, short enough to share a batch among the threads.
CHUNK = 16
FEW = 8  # pictures that are decoded sooner than a thread is started


def decoded_batches(sources: Iterable[S], batch_size: int, decode: Callable[[S], T], workers: int) -> Iterator[list[T]]:
    """Yield `[decode(source), ...]` for each `batch_size` sources, in order.

    The sources are drawn in the caller's thread, at most one batch ahead of what is yielded, and none ahead in small
    batches: a live source then gets each answer before it is asked for more. Where drawing one raises, what came
    before is yielded first. A generator that is abandoned stops its threads, after at most one chunk each.
    """
    waiting = iter(sources)
    group, failure = _draw(waiting, batch_size)
    if batch_size <= FEW or len(group) <= FEW:
        while group:
            yield [decode(source) for source in group]
            group, failure = ([], failure) if failure else _draw(waiting, batch_size)
    else:
        from concurrent.futures import ThreadPoolExecutor  # a single picture does not wait for this import

        pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

        def submit() -> list[Future[list[T]]]:
            chunks = [group[start : start + CHUNK] for start in range(0, len(group), CHUNK)]
            return [pool.submit(lambda chunk: [decode(source) for source in chunk], chunk) for chunk in chunks]

        try:
            pending = submit()
            while pending:
                ready = [decoded for future in pending for decoded in future.result()]
                group, failure = ([], failure) if failure else _draw(waiting, batch_size)
                pending = submit()
                yield ready
        finally:
            pool.shutdown(cancel_futures=True)
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
