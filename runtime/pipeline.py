"""Batched inference over a stream of pictures: threads decode the next batch while the session runs this one.

`preprocess` is the one way in: it makes of any picture the levels that a network's input asks for.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from runtime.errors import UsageError
from runtime.imaging.load import Source
from runtime.imaging.preprocess import Fit, Invert, Pixels, to_pixels
from runtime.model.spec import InputSpec

if TYPE_CHECKING:
    from concurrent.futures import Future

S = TypeVar("S")
T = TypeVar("T")

CHUNK = 16  # pictures that a thread decodes at a time
QUICK = 0.0005  # seconds; pictures that take less keep the interpreter locked, and two threads are slower than one
FEW = 8  # pictures that are decoded sooner than a thread is started


def preprocess(
    source: Source,
    spec: InputSpec,
    *,
    invert: Invert | None = None,
    fit: Fit | None = None,
    max_pixels: int | None = None,
) -> Pixels:
    """Turn any picture into levels for a network with this input.

    Takes and raises what `runtime.imaging.preprocess.to_pixels` does, and raises what `require_options` does. None for
    `invert` and `fit` means "auto" for a garment network; for any other network they must be None.
    """
    require_options(spec, invert, fit)
    if spec.preprocess == "garment":
        return to_pixels(source, invert=invert or "auto", fit=fit or "auto", max_pixels=max_pixels)
    from runtime.imaging.photo import to_levels  # a garment does not wait for it

    return Pixels(to_levels(source, spec, max_pixels), False, "photo")


def require_options(spec: InputSpec, invert: str | None, fit: str | None) -> None:
    """Raise UsageError where options that only garments have are given for another network."""
    given = [name for name, value in (("invert", invert), ("fit", fit)) if value is not None]
    if given and spec.preprocess != "garment":
        raise UsageError(
            f"this model takes photos ({spec.framing}), for "
            f"which there is no {' and no '.join(given)}: leave {'it' if len(given) == 1 else 'them'} out"
        )


def decoded_batches(
    sources: Iterable[S], batch_size: int, decode: Callable[[S], T], workers: int
) -> Generator[list[T], None, None]:
    """Yield `decode(source)` of each `batch_size` sources, in order; `workers` threads decode one batch ahead, and
    one of them alone where the pictures of the last batch were QUICK.

    The sources are drawn in the caller's thread, at most one batch ahead of what is yielded, and none ahead in batches
    of up to FEW: a live source gets each answer before it is asked for more. Where drawing one raises, what came before
    is yielded first. The threads of a generator that is closed early end by themselves, after at most one chunk each;
    whatever is raised here or thrown in waits for them.
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
        wait = True

        def decode_chunk(chunk: list[S]) -> tuple[list[T], float]:
            started = time.perf_counter()
            return [decode(source) for source in chunk], time.perf_counter() - started

        def begin(group: list[S], size: int) -> list[Future[tuple[list[T], float]]]:
            return [pool.submit(decode_chunk, group[at : at + size]) for at in range(0, len(group), size)]

        try:
            pending = begin(group, CHUNK)
            while pending:
                chunks = [future.result() for future in pending]
                ready = [decoded for chunk, _ in chunks for decoded in chunk]
                quick = sum(seconds for _, seconds in chunks) < QUICK * len(ready)
                group, failure = ([], failure) if failure else _draw(waiting, batch_size)
                pending = begin(group, batch_size if quick else CHUNK)
                yield ready
        except GeneratorExit:
            wait = False  # this may be Python's collector, in one of these threads or while a lock is held
            raise
        finally:
            pool.shutdown(wait, cancel_futures=True)
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
