"""Inference on a GPU: every node there, the answers of network and CPU, CUDA graphs, threads, flat memory."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime import Classifier
from runtime.evaluation.accuracy import measure_accuracy
from runtime.evaluation.doctor import examine
from runtime.evaluation.parity import measure_parity, read_tolerances
from runtime.evaluation.self_test import run_selftest
from runtime.model.metadata import LOGITS
from runtime.session.cuda import memory_used
from runtime.session.cuda_graphs import BUCKETS
from runtime.session.session import ALGORITHMS, Tuning
from zoo.publishing.parity import measure_live_parity

MIXED = [1, 7, 8, 9, 31, 64, 100, 256, 257, 600, 3, 1024, 1, 1500, 40]
DEVICE = "cuda"

pytestmark = pytest.mark.cuda
Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def images(test_images: Pixels) -> Pixels:
    """uint8 (10000, 1, 28, 28)"""
    return test_images[:, None].copy()


def tolerance(classifier: Classifier) -> float:
    """How far logits of two devices may lie apart: each may be so far from the network that was verified."""
    return 2 * read_tolerances(classifier.path.parent, classifier.sha256)[LOGITS]


def cpu_logits(model: Path, images: Pixels) -> npt.NDArray[np.float32]:
    with Classifier(model, device="cpu") as classifier:
        return classifier.logits(images)


def in_threads(work: Callable[[int], None], threads: int = 8) -> list[Exception]:
    """Call `work` with 0, 1, ... in threads at the same time; return what they raised."""
    errors: list[Exception] = []

    def call(number: int) -> None:
        try:
            work(number)
        except Exception as error:
            errors.append(error)

    started = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return errors


def test_the_gpu_is_described():
    document, unavailable = examine("cuda:0")

    assert unavailable is None
    assert document["devices"][1]["usable"] is True
    assert document["devices"][1]["memory_bytes"] > 2**30
    assert document["driver"]["version"]


def test_every_known_answer_is_right():
    report = run_selftest(DEVICE)

    assert [case.as_dict() for case in report.failures] == []
    assert report.device == "cuda:0"


def test_every_node_of_a_published_model_is_on_the_gpu(model):
    with Classifier(model, device=DEVICE) as classifier:
        assert (classifier.device, list(classifier.placement)) == ("cuda:0", ["CUDAExecutionProvider"])
        assert classifier.info()["gpu"]["notice"] is None


@pytest.mark.parametrize("tf32", [False, True])
def test_a_published_model_gives_its_golden_answers(model, tf32):
    with Classifier(model, device=DEVICE, tf32=tf32) as classifier:
        report = measure_parity(classifier)

    assert report.passed, report
    assert report.as_dict()["tf32"] is tf32


@pytest.mark.parametrize("tf32", [False, True])
def test_a_published_model_gives_the_answers_of_the_network_run_now(model, tf32, images):
    with Classifier(model, device=DEVICE, tf32=tf32) as classifier:
        report = measure_live_parity(classifier, images[:512])

    assert report.passed, report


def test_every_test_image_gets_the_cpus_class(model, images, test_labels):
    expected = cpu_logits(model, images)
    with Classifier(model, device=DEVICE) as classifier:
        found = classifier.logits(images)
        report = measure_accuracy(classifier, images, test_labels)

        assert np.flatnonzero(found.argmax(axis=1) != expected.argmax(axis=1)).tolist() == []
        assert np.abs(found - expected).max() <= tolerance(classifier)
        assert report.correct == classifier.metadata.fields["accuracy"]["correct"]


def test_batches_are_replayed_as_graphs_one_for_each_size(lenet, images):
    with Classifier(lenet, device=DEVICE) as classifier:
        for count in (1, 5, 8, 100):
            classifier.logits(images[:count])
        gpu = classifier.info()["gpu"]

    assert (gpu["graphs"], gpu["notice"], gpu["batch_sizes"]) == (True, None, [1, 8, 128])


def test_a_graph_stays_right_after_other_batch_sizes_were_captured(model, images):
    """cuDNN plans anew for another shape: a graph captured before must not read what that plan freed."""
    expected = cpu_logits(model, images[:64])
    with Classifier(model, device=DEVICE) as classifier:
        for _ in range(5):
            for count in (8, 64, 1, 8, 64, 1):
                difference = np.abs(classifier.logits(images[:count]) - expected[:count]).max()
                assert difference <= tolerance(classifier), count
        assert classifier.info()["gpu"]["notice"] is None


def test_mixed_batch_sizes_give_what_a_session_without_graphs_gives(model, images):
    with (
        Classifier(model, device=DEVICE) as replayed,
        Classifier(model, device=DEVICE, tuning=Tuning(graphs=False)) as uncaptured,
    ):
        expected = uncaptured.logits(images[:1500], 1024)
        for _ in range(3):
            for count in MIXED:
                difference = np.abs(replayed.logits(images[:count], 1024) - expected[:count]).max()
                assert difference <= tolerance(replayed), count
        assert replayed.info()["gpu"]["notice"] is None


def test_memory_on_the_gpu_is_flat_over_mixed_batch_sizes(lenet, images):
    with Classifier(lenet, device=DEVICE) as classifier:
        for bucket in BUCKETS:
            classifier.logits(images[:bucket], 1024)
        before = memory_used(0)
        for count in np.random.default_rng(0).integers(1, 2000, 300):
            classifier.logits(images[:count], 1024)
        after = memory_used(0)

    assert before
    assert after is not None
    assert after <= before * 1.05


def test_eight_threads_share_a_classifier_and_threads_come_and_go(lenet, images):
    with Classifier(lenet, device=DEVICE) as classifier:
        expected = classifier.logits(images[:1500], 1024)

        def work(number: int) -> None:
            for count in np.random.default_rng(number).permutation(MIXED):
                difference = np.abs(classifier.logits(images[:count], 1024) - expected[:count]).max()
                assert difference <= tolerance(classifier), count

        for _ in range(3):
            assert in_threads(work) == []


@pytest.mark.parametrize("closed", [True, False])
def test_eight_threads_open_run_and_close_classifiers(lenet, images, closed):
    """While one captures a graph, another may neither allocate nor free: also where it is dropped and not closed."""
    expected = cpu_logits(lenet, images[:300])

    def work(number: int) -> None:
        for _ in range(3):
            classifier = Classifier(lenet, device=DEVICE)
            for count in np.random.default_rng(number).permutation([1, 8, 30, 60, 120, 250]):
                difference = np.abs(classifier.logits(images[:count]) - expected[:count]).max()
                assert difference <= tolerance(classifier), count
            assert classifier.info()["gpu"]["notice"] is None
            if closed:
                classifier.close()
            del classifier
            gc.collect()

    assert in_threads(work) == []


@pytest.mark.parametrize("algorithms", ALGORITHMS)
@pytest.mark.parametrize("nhwc", [False, True])
def test_no_setting_of_speed_changes_an_answer(lenet, algorithms, nhwc, images):
    expected = cpu_logits(lenet, images[:256])
    with Classifier(lenet, device=DEVICE, tuning=Tuning(algorithms, nhwc=nhwc)) as classifier:
        assert np.abs(classifier.logits(images[:256]) - expected).max() <= tolerance(classifier)
