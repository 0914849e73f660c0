"""What a GPU is given, tested on the CPU: buffers, padding, one thread, and who frees the session.

onnxruntime's buffers and bindings are the same for all devices; only the graph inside the session is CUDA's own.
"""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.photo_models import random_model

from runtime import Classifier, DeviceUnavailable, FashionZooError, InputSpec
from runtime.model.metadata import LOGITS, PROBABILITIES
from runtime.model.spec import FASHION_MNIST
from runtime.session.cuda_graphs import BUCKETS, BoundSession, Buffers, bucket_for, capture_lock, pieces
from runtime.session.device import CPU, Device
from runtime.session.session import ReopenableSession, Tuning, open_session

MODEL = Path(__file__).resolve().parents[3] / "weights" / "lenet" / "model.onnx"
Pixels = npt.NDArray[np.uint8]


class Recorder:
    """A real session that writes down each run's graph, and fails where it is told to."""

    def __init__(self, fails: Callable[[str], bool] = lambda graph: False) -> None:
        self.session = open_session(MODEL.read_bytes(), "cpu", threads=1).session
        self.fails = fails
        self.graphs: list[str] = []
        self.threads: set[int] = set()

    def io_binding(self) -> Any:
        return self.session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph = options.get_run_config_entry("gpu_graph_id")
        self.graphs.append(graph)
        self.threads.add(threading.get_ident())
        if self.fails(graph):
            raise RuntimeError("CUDA failure 900:\n  operation not permitted when stream is capturing")
        self.session.run_with_iobinding(binding, options)


@pytest.fixture
def pixels(test_images: Pixels) -> Pixels:
    return test_images[:1500, None].copy()


@pytest.fixture(scope="module")
def plain() -> Iterator[Classifier]:
    with Classifier(MODEL, device="cpu", threads=1) as classifier:
        yield classifier


def bound_over(session: Any, *, graphs: bool = True) -> BoundSession:
    return BoundSession(session, CPU, FASHION_MNIST, 10, graphs=graphs, what="lenet")


@pytest.mark.parametrize(
    ("count", "batch_size", "cut"),
    [
        (0, 256, []),
        (1, 256, [(0, 1, 1)]),
        (9, 256, [(0, 9, 32)]),
        (300, 256, [(0, 256, 256), (256, 300, 64)]),
        (3000, 5000, [(0, 1024, 1024), (1024, 2048, 1024), (2048, 3000, 1024)]),
        (5, 2, [(0, 2, 8), (2, 4, 8), (4, 5, 1)]),
    ],
)
def test_pictures_are_cut_at_the_batch_size_and_the_largest_bucket(count, batch_size, cut):
    assert [(part.start, part.stop, bucket) for part, bucket in pieces(count, batch_size)] == cut


def test_no_batch_above_the_smallest_buckets_is_padded_to_more_than_four_times_its_size():
    for count in range(1, BUCKETS[-1] + 1):
        assert count <= bucket_for(count) <= max(8, 4 * count)
        if count > 32:
            assert bucket_for(count) < 2 * count


def test_buffers_are_of_the_files_own_input(tmp_path):
    """Lost otherwise: every model on a GPU that is no garment's."""
    spec = InputSpec.photo((24, 40), datatype="FP32")
    path = random_model(tmp_path / "photos.onnx", spec, 100)
    images = spec.random(11)
    with Classifier(path, device="cpu") as plain:
        bound = BoundSession(
            open_session(path.read_bytes(), "cpu").session, CPU, spec, 100, graphs=False, what="photos"
        )

        np.testing.assert_allclose(bound.run([LOGITS], images, 8)[0], plain.logits(images), atol=1e-4)
        bound.close()


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 100, 256, 257, 1025, 1500])
def test_padded_and_cut_batches_give_what_the_session_gives(count, plain, pixels):
    bound = bound_over(Recorder())

    np.testing.assert_allclose(bound.run([LOGITS], pixels[:count], 2000)[0], plain.logits(pixels[:count]), atol=1e-5)
    np.testing.assert_allclose(
        bound.run([PROBABILITIES], pixels[:count], 64)[0], plain.probabilities(pixels[:count]), atol=1e-6
    )


def test_several_outputs_come_from_one_run(plain, pixels):
    session = Recorder()
    probabilities, logits = bound_over(session).run([PROBABILITIES, LOGITS], pixels[:3], 256)

    assert len(session.graphs) == 1
    np.testing.assert_allclose(logits, plain.logits(pixels[:3]), atol=1e-5)
    np.testing.assert_allclose(probabilities, plain.probabilities(pixels[:3]), atol=1e-6)


def test_what_an_earlier_batch_left_in_the_buffers_is_never_seen(plain, pixels):
    bound = bound_over(Recorder())
    first = bound.run([LOGITS], pixels[:30], 256)[0]
    kept = first.copy()
    bound.run([LOGITS], pixels[100:132], 256)
    last = bound.run([LOGITS], pixels[40:43], 256)[0]

    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(last, plain.logits(pixels[40:43]), atol=1e-5)


def test_each_batch_size_has_its_own_graph_and_both_outputs_share_it(pixels):
    session = Recorder()
    bound = bound_over(session)
    for outputs, count in (([LOGITS], 3), ([PROBABILITIES], 8), ([LOGITS], 64), ([LOGITS, PROBABILITIES], 5)):
        bound.run(outputs, pixels[:count], 256)

    assert session.graphs == ["8", "8", "64", "8"]
    assert bound.captured == [8, 64]


def test_where_a_capture_fails_the_same_device_goes_on_without_graphs_and_says_so(plain, pixels):
    first, second = Recorder(fails=lambda graph: graph == "1"), Recorder()
    live = ReopenableSession(MODEL, "cpu", 1)
    live.session, live.device, live.tuning = first, Device("cuda"), Tuning()
    live._open_again = lambda: second  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "runtime.session.cuda_graphs.Buffers", lambda session, _device, *rest: Buffers(session, CPU, *rest)
        )
        live.bind(FASHION_MNIST, 10)
        assert live.bound is not None
        answers = live.bound.run([LOGITS], pixels[:40], 256)[0]

    np.testing.assert_allclose(answers, plain.logits(pixels[:40]), atol=1e-5)
    assert (first.graphs, second.graphs) == (["1"], ["-1"])
    assert (live.bound.graphs, live.tuning.graphs) == (False, False)
    assert live.notice == ("without CUDA graphs: CUDA failure 900: operation not permitted when stream is capturing")


def test_a_failure_without_graphs_is_one_sentence_with_the_batch_and_the_reason(pixels):
    bound = bound_over(Recorder(fails=lambda _: True))

    with pytest.raises(
        DeviceUnavailable, match="lenet failed on cpu in a batch of 8: CUDA failure 900: operation"
    ) as no:
        bound.run([LOGITS], pixels[:3], 256)
    assert no.value.exit_code == 4
    assert "\n" not in str(no.value)


def test_a_replay_that_fails_after_it_worked_is_an_error_and_no_reason_to_open_again(pixels):
    broken: list[bool] = []
    bound = bound_over(Recorder(fails=lambda _: bool(broken)))
    bound.run([LOGITS], pixels[:3], 256)
    broken.append(True)

    buffers = bound._buffers[8]
    with pytest.raises(DeviceUnavailable, match="in a batch of 8"):
        bound.run([LOGITS], pixels[:3], 256)
    assert bound._buffers[8] is buffers  # its graph reads and writes these addresses


def test_a_session_that_was_closed_says_so(pixels):
    bound = bound_over(Recorder())
    bound.run([LOGITS], pixels[:3], 256)
    bound.close()
    bound.close()

    with pytest.raises(FashionZooError, match="has been closed"):
        bound.run([LOGITS], pixels[:3], 256)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "collected"])
def test_a_session_is_not_freed_while_another_one_captures(closed, pixels):
    """CUDA would abort the capture, and with it the other model's request."""
    session = Recorder()
    freed = threading.Event()
    weakref.finalize(session, freed.set)
    bound = bound_over(session)
    bound.run([LOGITS], pixels[:3], 256)
    held = [bound]
    del session, bound

    def let_go() -> None:
        if closed:
            held[0].close()
        held.clear()

    with capture_lock:
        thread = threading.Thread(target=let_go)
        thread.start()
        thread.join(0.2)
        assert not freed.is_set()
    thread.join(60)
    gc.collect()
    assert freed.is_set()


def test_all_threads_share_one_worker(plain, pixels):
    session = Recorder()
    bound = bound_over(session)
    counts = [1, 5, 9, 33, 70, 130, 3, 300] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda count: bound.run([LOGITS], pixels[count : 2 * count], 256)[0], counts))
    bound.run([LOGITS], pixels[:3], 256)

    assert len(session.threads) == 1
    assert threading.get_ident() not in session.threads
    for count, answer in zip(counts, answers, strict=True):
        np.testing.assert_allclose(answer, plain.logits(pixels[count : 2 * count]), atol=1e-5)


def test_a_whole_classifier_answers_through_bound_buffers_as_it_does_without(plain, test_images):
    with Classifier(MODEL, device="cpu", threads=1) as classifier:
        classifier._live.bound = bound_over(classifier._live.session)
        sources = list(test_images[:300])
        answers = classifier.predict_batch(sources, 64)

        assert [answer.label for answer in answers] == [answer.label for answer in plain.predict_batch(sources, 64)]
        np.testing.assert_allclose(  # read-only, and of another stride
            classifier.logits(test_images[:64:2, None]), plain.logits(test_images[:64:2, None]), atol=1e-5
        )
        assert classifier.info()["gpu"] == {
            **{"tf32": False, "algorithms": "HEURISTIC", "graphs": True, "nhwc": False, "spin_us": 100},
            **{"batch_sizes": [64, 32], "notice": None},
        }
