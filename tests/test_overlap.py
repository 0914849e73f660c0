"""Batches that are decoded ahead: in order, no more than two held, errors in place, nothing left running."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from runtime import Classifier, ImageError, Prediction
from runtime.overlap import decoded_batches

T = TypeVar("T")


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def each(decode: Callable[[int], T]) -> Callable[[list[int]], list[T]]:
    return lambda numbers: [decode(number) for number in numbers]


def still_decoding() -> list[threading.Thread]:
    """The decoders that do not end by themselves."""
    for thread in decoders():
        thread.join(timeout=10)
    return decoders()


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 9, 16, 50, 1000])
@pytest.mark.parametrize("count", [0, 1, 9, 32, 100])
def test_batches_come_in_order_and_whole(count: int, batch_size: int, spare: bool) -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.002 if number % 7 == 0 else 0)
        return number * 2

    batches = list(decoded_batches(iter(range(count)), batch_size, each(slower_first), 3, spare=spare))

    assert [item for batch in batches for item in batch] == [2 * number for number in range(count)]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert still_decoding() == []


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """What decoding takes: so many seconds by the clock that is read here, however busy the machine."""
    clock = threading.local()

    def take(seconds: float) -> None:
        clock.now = getattr(clock, "now", 0.0) + seconds
        time.sleep(seconds)

    monkeypatch.setattr("runtime.overlap.time", SimpleNamespace(perf_counter=lambda: getattr(clock, "now", 0.0)))
    return take


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_slow_pictures_are_decoded_by_several_threads_and_quick_ones_by_one_or_none(
    seconds: float, spare: bool, take: Callable[[float], None]
) -> None:
    seen = set()

    def decode(number: int) -> int:
        seen.add(threading.current_thread())
        take(seconds)
        return number

    list(decoded_batches(iter(range(200)), 100, each(decode), 3, spare=spare))

    assert len(seen - {threading.current_thread()}) in ({2, 3} if seconds else {int(spare)})


@pytest.mark.parametrize("spare", [True, False])
def test_pictures_that_grow_are_shared_among_the_threads(spare: bool, take: Callable[[float], None]) -> None:
    def decode(number: int) -> threading.Thread:
        take(0.004 if number >= 100 else 0)
        return threading.current_thread()

    first, second, third = decoded_batches(iter(range(300)), 100, each(decode), 3, spare=spare)

    for batch in (first, second):
        assert len({*batch} - {threading.current_thread()}) == int(spare)
    assert len({*third} - {threading.current_thread()}) > 1


@pytest.mark.parametrize(("spare", "ahead"), [(True, 1), (False, 0)])
def test_one_batch_is_drawn_ahead_and_none_where_nobody_decodes_it(
    spare: bool, ahead: int, take: Callable[[float], None]
) -> None:
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    batches = decoded_batches(endless(), 20, list, 2, spare=spare)  # by a clock that stands still: quick
    for number in range(1, 5):
        next(batches)
        assert drawn == 20 * (number + ahead)
    batches.close()


def test_a_live_source_is_answered_before_it_is_asked_again() -> None:
    drawn: list[int] = []

    def live() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    for number, batch in enumerate(decoded_batches(live(), 1, list, 2, spare=True)):
        assert (batch, drawn) == ([number], list(range(number + 1)))


def test_a_stream_that_is_abandoned_leaves_no_thread() -> None:
    batches = decoded_batches(iter(range(10_000)), 100, each(lambda number: time.sleep(0.001)), 2, spare=True)
    next(batches)
    assert decoders()
    del batches

    assert still_decoding() == []


def test_a_stream_that_python_collects_in_a_decoder_ends_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an exception's traceback holds the stream in a cycle, and a decoder happens to start the collector."""
    abandoned, collected = threading.Event(), threading.Event()
    complaints: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)

    def decode(number: int) -> int:
        if number == 150:
            assert abandoned.wait(timeout=10)
            gc.collect()
            collected.set()
        return number

    cycle: list[Any] = [decoded_batches(iter(range(10_000)), 100, each(decode), 2, spare=True)]
    cycle.append(cycle)
    next(cycle[0])
    gone = weakref.ref(cycle[0])
    gc.disable()
    try:
        del cycle
        abandoned.set()
        assert collected.wait(timeout=10)
    finally:
        gc.enable()

    assert gone() is None
    assert [one for one in complaints if "decoded_batches" in repr(one.object)] == []  # others' garbage goes, too
    assert still_decoding() == []


@pytest.mark.parametrize("batch_size", [4, 16])
def test_what_came_before_a_source_that_raises_is_answered_first(batch_size: int) -> None:
    def failing() -> Iterator[int]:
        yield from range(20)
        raise OSError("the disk is gone")

    batches = decoded_batches(failing(), batch_size, list, 2, spare=True)
    got = [number for _ in range(20 // batch_size) for number in next(batches)]
    if 20 % batch_size:
        got += next(batches)

    assert got == list(range(20))
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_an_error_is_raised_once_no_thread_reads_any_more() -> None:
    reading: set[int] = set()

    def decode(number: int) -> int:
        reading.add(number)
        time.sleep(0.005)
        reading.remove(number)
        return number

    batches = decoded_batches(iter(range(1000)), 100, each(decode), 2, spare=True)
    next(batches)
    while not reading:
        time.sleep(0.001)
    with pytest.raises(ImageError, match="enough"):
        batches.throw(ImageError("corrupt", "enough"))

    assert not reading
    assert still_decoding() == []


def test_what_a_decoder_raises_reaches_the_caller_and_ends_the_threads() -> None:
    def decode(number: int) -> int:
        return 1 // (number - 30)

    with pytest.raises(ZeroDivisionError):
        list(decoded_batches(range(1000), 50, each(decode), 2, spare=True))
    assert still_decoding() == []


@pytest.mark.parametrize(("threads", "spare"), [(None, False), (1, True), (3, True), (4, False), (8, False)])
def test_a_session_on_the_cpu_leaves_a_core_to_spare_where_it_has_fewer_threads(
    threads: int | None, spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.live.available_cpus", lambda: 4)
    with Classifier("lenet", device="cpu", threads=threads) as classifier:
        assert classifier._live.spare is spare


@pytest.mark.parametrize("spare", [True, False])
def test_bad_pictures_keep_their_place_among_many(spare: bool, test_images: npt.NDArray[np.uint8]) -> None:
    sources: list[Any] = list(test_images[:100])
    bad = {0, 31, 32, 63, 64, 99}
    for index in bad:
        sources[index] = b"no picture"
    with Classifier("lenet", device="cpu") as classifier:
        classifier._live.spare = spare
        answers = list(classifier.stream(sources, batch_size=32, return_errors=True))
        alone = [classifier.predict(source).label for index, source in enumerate(sources) if index not in bad]
        with pytest.raises(ImageError, match="the picture"):
            list(classifier.stream(sources[1:], batch_size=32))

    assert {index for index, answer in enumerate(answers) if isinstance(answer, ImageError)} == bad
    assert [answer.label for answer in answers if not isinstance(answer, ImageError)] == alone
    assert still_decoding() == []


class Unreadable:
    """A source of the caller's own whose reading fails."""

    def read(self, size: int) -> bytes:
        raise RuntimeError("the connection is gone")


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize(
    ("good", "batch_size"), [(0, 1), (5, 256), (5, 3), (5, 5), (8, 256), (40, 16), (40, 33), (40, 41), (300, 256)]
)
@pytest.mark.parametrize("bad", [b"no picture", Unreadable(), 7])
def test_the_pictures_before_one_that_cannot_be_read_are_answered_first(
    good: int, batch_size: int, spare: bool, bad: Any, test_images: npt.NDArray[np.uint8]
) -> None:
    """Who writes answers down as they come has all of them up to the bad picture, whatever the size of a batch."""
    sources: list[Any] = [*test_images[:good], bad, *test_images[:20], b"a later one"]
    got: list[Prediction] = []
    with Classifier("lenet", device="cpu") as classifier:
        classifier._live.spare = spare
        expected = classifier.logits(test_images[:good, None].copy()).argmax(1)
        with pytest.raises(ImageError) as raised:
            got.extend(classifier.stream(sources, batch_size))

    assert [answer.index for answer in got] == expected.tolist()
    assert "a later one" not in str(raised.value)
    assert still_decoding() == []


@pytest.mark.parametrize("return_errors", [True, False])
@pytest.mark.parametrize(("good", "batch_size"), [(0, 4), (5, 256), (5, 5), (40, 16), (300, 256)])
def test_the_pictures_before_an_iterator_that_raises_are_answered_first(
    good: int, batch_size: int, return_errors: Literal[True, False], test_images: npt.NDArray[np.uint8]
) -> None:
    def failing() -> Iterator[Any]:
        yield from test_images[:good]
        raise OSError("the disk is gone")

    got: list[Any] = []
    with Classifier("lenet", device="cpu") as classifier, pytest.raises(OSError, match="the disk is gone"):
        got.extend(classifier.stream(failing(), batch_size, return_errors=return_errors))

    assert len(got) == good


def test_of_a_bad_picture_and_an_iterator_that_raises_the_first_is_told(test_images: npt.NDArray[np.uint8]) -> None:
    def failing() -> Iterator[Any]:
        yield test_images[0]
        yield b"no picture"
        raise OSError("the disk is gone")

    with Classifier("lenet", device="cpu") as classifier:
        stream = classifier.stream(failing(), 256)
        assert next(stream).label == "Ankle boot"
        with pytest.raises(ImageError):
            next(stream)
