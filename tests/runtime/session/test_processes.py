"""One classifier in several threads and processes: shipped by name, opened again after a fork, closed when closed."""

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime import Classifier, DeviceUnavailable, FashionZooError, ModelInvalid
from runtime.session.device import Device

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = ROOT / "weights"
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    with Classifier(WEIGHTS / "lenet", device="cpu", threads=2) as classifier:
        yield classifier


@pytest.fixture
def pixels(test_images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return test_images[:64, None].copy()


def test_a_pickle_is_the_request_and_not_the_weights(classifier, pixels):
    pickled = pickle.dumps(classifier)
    again = pickle.loads(pickled)

    assert len(pickled) < 500
    assert (again.name, again.path, again.device) == (classifier.name, classifier.path, "cpu")
    np.testing.assert_array_equal(again.logits(pixels), classifier.logits(pixels))


def test_a_copy_has_a_session_of_its_own(classifier, pixels):
    other = copy.deepcopy(classifier)
    classifier.close()

    assert other.logits(pixels).shape == (64, 10)


def test_a_relative_path_means_the_same_file_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(WEIGHTS)
    pickled = pickle.dumps(Classifier("lenet/model.onnx", device="cpu"))
    monkeypatch.chdir(tmp_path)

    assert pickle.loads(pickled).path == WEIGHTS / "lenet" / "model.onnx"


@forks
def test_a_relative_path_means_the_same_file_after_a_fork_in_another_folder(tmp_path, monkeypatch, pixels):
    """Servers change into `/` when they have started; their workers open the model again."""
    monkeypatch.chdir(WEIGHTS)
    with Classifier("lenet/model.onnx", device="cpu") as classifier:
        expected = classifier.logits(pixels)
        classifier._live.session = None  # what a forked child finds
        monkeypatch.chdir(tmp_path)

        np.testing.assert_array_equal(classifier.logits(pixels), expected)


def test_a_pickle_does_not_become_another_model_unseen(tmp_path):
    path = tmp_path / "mine.onnx"
    shutil.copy(WEIGHTS / "lenet" / "model.onnx", path)
    pickled = pickle.dumps(Classifier(path, device="cpu"))
    shutil.copy(WEIGHTS / "lenet-modern" / "model.onnx", path)

    with pytest.raises(ModelInvalid, match="not the file this classifier was made from"):
        pickle.loads(pickled)


def test_a_closed_classifier_cannot_be_pickled(classifier):
    classifier.close()

    with pytest.raises(FashionZooError, match="has been closed"):
        pickle.dumps(classifier)


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=forks)])
# Python 3.12 warns of any fork in a process with threads; that we may be forked is what is tested.
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_process_pool_gives_the_answers_of_one_process(classifier, pixels, method):
    expected = classifier.logits(pixels)
    with multiprocessing.get_context(method).Pool(2) as pool:
        parts = pool.map_async(classifier.logits, [pixels[:20], pixels[20:40], pixels[40:]]).get(timeout=120)

    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_a_thread_pool_gives_the_answers_of_one_thread(classifier, pixels):
    pictures = list(pixels[:, 0])
    with ThreadPool(8) as pool:
        answers = pool.map(classifier.predict, pictures)

    assert [answer.label for answer in answers] == [answer.label for answer in classifier.predict_batch(pictures)]


def in_child_process(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that forks in a process of its own; a hang fails it.

    Its children end by os._exit, as multiprocessing's do: with `import onnxruntime` alone, and no session, a forked
    child that leaves by sys.exit hangs in onnxruntime's own teardown.
    """
    head = (
        "import gc, os, sys, threading, numpy as np\nfrom runtime import Classifier\n"
        f"clf = Classifier({str(WEIGHTS / 'lenet')!r}, device='cpu', threads=2)\n"
        "pixels = np.arange(300 * 784, dtype=np.uint32).astype(np.uint8).reshape(300, 1, 28, 28)\n"
        "expected = clf.logits(pixels)\n"
        "def wait(pid):\n    assert os.waitpid(pid, 0)[1] == 0\n"
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", head + program]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


@forks
@pytest.mark.parametrize(
    "child",
    [
        "assert np.allclose(clf.logits(pixels), expected, atol=1e-5)",
        "assert len(clf.predict_batch(list(pixels[:, 0]))) == 300",
        "del clf; gc.collect()",  # the parent's session is not freed: its threads are not here to be joined
        "clf.close()",
        "[clf.logits(pixels) for _ in range(3)]; clf.close()",
        "ts = [threading.Thread(target=clf.logits, args=(pixels,)) for _ in range(8)]; "
        "[t.start() for t in ts]; [t.join() for t in ts]",
        "grandchild = os.fork()\n    clf.logits(pixels)\n    if grandchild: wait(grandchild)",
    ],
)
def test_a_forked_child_answers_and_ends_and_so_does_its_parent(child):
    done = in_child_process(
        f"pid = os.fork()\nif pid == 0:\n    {child}\n    os._exit(0)\n"
        "wait(pid)\nassert np.allclose(clf.logits(pixels), expected, atol=1e-5)\nprint('answered')"
    )

    assert (done.stdout.splitlines()[-1:], done.stderr) == (["answered"], "")


@forks
def test_a_fork_while_another_thread_classifies_does_not_hang_the_child():
    done = in_child_process(
        "stop = threading.Event()\n"
        "def work():\n    while not stop.is_set(): clf.logits(pixels)\n"
        "worker = threading.Thread(target=work); worker.start()\n"
        "for _ in range(5):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n        clf.logits(pixels); os._exit(0)\n"
        "    wait(pid)\n"
        "stop.set(); worker.join(); print('answered')"
    )

    assert (done.stdout, done.stderr) == ("answered\n", "")


def test_a_child_of_a_process_with_cuda_is_told_to_spawn(classifier, pixels, monkeypatch):
    monkeypatch.setattr(classifier._live, "session", None)  # as after a fork
    monkeypatch.setattr(classifier._live, "device", Device("cuda"))

    with pytest.raises(DeviceUnavailable, match="'spawn' method"):
        classifier.logits(pixels)


def test_a_file_that_changed_before_the_fork_is_not_used_after_it(tmp_path, pixels):
    path = tmp_path / "mine.onnx"
    shutil.copy(WEIGHTS / "lenet" / "model.onnx", path)
    classifier = Classifier(path, device="cpu")
    shutil.copy(WEIGHTS / "lenet-modern" / "model.onnx", path)
    classifier._live.session = None  # as after a fork

    with pytest.raises(ModelInvalid, match="has changed since it was opened"):
        classifier.logits(pixels)
