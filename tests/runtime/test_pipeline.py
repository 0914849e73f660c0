"""Batches that are decoded ahead: in order, no more than two held, errors in place, nothing left running."""

import gc
import math
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from runtime import Classifier, ImageError, Prediction
from runtime.pipeline import decoded_batches


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def still_decoding() -> list[threading.Thread]:
    """The decoders that do not end by themselves."""
    for thread in decoders():
        thread.join(timeout=10)
    return decoders()


@pytest.mark.parametrize("batch_size", [1, 2, 9, 16, 50, 1000])
@pytest.mark.parametrize("count", [0, 1, 9, 32, 100])
def test_batches_come_in_order_and_whole(count, batch_size):
    def slower_first(number: int) -> int:
        time.sleep(0.002 if number % 7 == 0 else 0)
        return number * 2

    batches = list(decoded_batches(iter(range(count)), batch_size, slower_first, 3))

    assert [item for batch in batches for item in batch] == [2 * number for number in range(count)]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert still_decoding() == []


def test_one_batch_is_drawn_ahead_and_no_more():
    """An endless source of large pictures fills no more memory than two batches take."""
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    batches = decoded_batches(endless(), 20, int, 2)
    for number in range(1, 5):
        next(batches)
        assert drawn == 20 * (number + 1)
    batches.close()


def test_several_threads_decode_while_the_caller_does_something_else(monkeypatch):
    """Large pictures are decoded on all cores, and the next batch during the session's run."""
    monkeypatch.setattr("runtime.pipeline.QUICK", 0.0)
    together = threading.Barrier(3)

    def decode(number: int) -> threading.Thread:
        if number % 100 in (0, 16, 32):
            together.wait(timeout=10)  # passes once three threads decode at the same time
        return threading.current_thread()

    batches = list(decoded_batches(range(200), 100, decode, 3))

    assert all(len({*batch}) == 3 and threading.current_thread() not in batch for batch in batches)


def test_one_thread_decodes_what_is_quick(monkeypatch):
    """Threads that decode small pictures wait for each other's lock: two were slower than one."""
    monkeypatch.setattr("runtime.pipeline.QUICK", math.inf)
    batches = list(decoded_batches(range(500), 100, lambda _: threading.current_thread(), 3))

    assert [len({*batch}) for batch in batches[1:]] == [1, 1, 1, 1]
    assert threading.current_thread() not in batches[-1]


def test_a_live_source_is_answered_before_it_is_asked_again():
    drawn: list[int] = []

    def live() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number

    for number, batch in enumerate(decoded_batches(live(), 1, int, 2)):
        assert (batch, drawn) == ([number], list(range(number + 1)))


def test_a_stream_that_is_abandoned_leaves_no_thread():
    batches = decoded_batches(iter(range(10_000)), 100, lambda number: time.sleep(0.001), 2)
    next(batches)
    assert decoders()
    del batches

    assert still_decoding() == []


def test_a_stream_that_python_collects_in_a_decoder_ends_in_silence(monkeypatch):
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

    cycle: list[Any] = [decoded_batches(iter(range(10_000)), 100, decode, 2)]
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


def test_an_error_is_raised_once_no_thread_reads_any_more():
    reading: set[int] = set()

    def decode(number: int) -> int:
        reading.add(number)
        time.sleep(0.005)
        reading.remove(number)
        return number

    batches = decoded_batches(iter(range(1000)), 100, decode, 2)
    next(batches)
    while not reading:
        time.sleep(0.001)
    with pytest.raises(ImageError, match="enough"):
        batches.throw(ImageError("corrupt", "enough"))

    assert not reading
    assert still_decoding() == []


def test_an_interruption_ends_the_threads_and_the_stream():
    """Ctrl-C during a long run stops it at once, with nothing left that reads files."""

    def interrupted() -> Iterator[int]:
        yield from range(150)
        raise KeyboardInterrupt

    batches = decoded_batches(interrupted(), 100, int, 2)
    with pytest.raises(KeyboardInterrupt):
        next(batches)

    assert still_decoding() == []
    assert list(batches) == []


def test_what_a_decoder_raises_reaches_the_caller_and_ends_the_threads():
    def decode(number: int) -> int:
        return 1 // (number - 30)

    with pytest.raises(ZeroDivisionError):
        list(decoded_batches(range(1000), 50, decode, 2))
    assert still_decoding() == []


def test_bad_pictures_keep_their_place_among_many(test_images):
    sources: list[Any] = list(test_images[:100])
    bad = {0, 31, 32, 63, 64, 99}
    for index in bad:
        sources[index] = b"no picture"
    with Classifier("lenet", device="cpu") as classifier:
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


@pytest.mark.parametrize(
    ("good", "batch_size"), [(0, 1), (5, 256), (5, 3), (5, 5), (8, 256), (40, 16), (40, 33), (40, 41), (300, 256)]
)
@pytest.mark.parametrize("bad", [b"no picture", Unreadable(), 7])
def test_the_pictures_before_one_that_cannot_be_read_are_answered_first(good, batch_size, bad, test_images):
    """Who writes answers down as they come has all of them up to the bad picture, whatever the size of a batch."""
    sources: list[Any] = [*test_images[:good], bad, *test_images[:20], b"a later one"]
    got: list[Prediction] = []
    with Classifier("lenet", device="cpu") as classifier:
        expected = classifier.logits(test_images[:good, None].copy()).argmax(1)
        with pytest.raises(ImageError) as raised:
            got.extend(classifier.stream(sources, batch_size))

    assert [answer.index for answer in got] == expected.tolist()
    assert "a later one" not in str(raised.value)
    assert still_decoding() == []


@pytest.mark.parametrize("return_errors", [True, False])
@pytest.mark.parametrize(("good", "batch_size"), [(0, 4), (5, 256), (5, 5), (40, 16), (300, 256)])
def test_the_pictures_before_an_iterator_that_raises_are_answered_first(good, batch_size, return_errors, test_images):
    def failing() -> Iterator[Any]:
        yield from test_images[:good]
        raise OSError("the disk is gone")

    got: list[Any] = []
    with Classifier("lenet", device="cpu") as classifier, pytest.raises(OSError, match="the disk is gone"):
        got.extend(classifier.stream(failing(), batch_size, return_errors=return_errors))

    assert len(got) == good


def test_of_a_bad_picture_and_an_iterator_that_raises_the_first_is_told(test_images):
    def failing() -> Iterator[Any]:
        yield test_images[0]
        yield b"no picture"
        raise OSError("the disk is gone")

    with Classifier("lenet", device="cpu") as classifier:
        stream = classifier.stream(failing(), 256)
        assert next(stream).label == "Ankle boot"
        with pytest.raises(ImageError):
            next(stream)
