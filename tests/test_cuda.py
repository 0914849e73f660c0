"""On a real GPU: every node there, the answers of the CPU and of PyTorch, graphs, mixed sizes, and flat memory."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from runtime.buckets import BUCKETS

from runtime import Classifier, DeviceUnavailable
from runtime.accuracy import measure_accuracy
from runtime.gpus import memory_used
from runtime.parity import measure_parity
from runtime.session import ALGORITHMS, Tuning
from runtime.store import read_index

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights"
PUBLISHED = list(read_index(WEIGHTS))
MIXED = [1, 7, 8, 9, 31, 64, 100, 256, 257, 600, 3, 1024, 1, 1500, 40]

pytestmark = pytest.mark.cuda
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    try:
        Classifier("lenet", device="cuda").close()
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=PUBLISHED)
def model(request: pytest.FixtureRequest) -> Path:
    return WEIGHTS / str(request.param)


@pytest.fixture
def lenet() -> Iterator[Classifier]:
    with Classifier(WEIGHTS / "lenet", device="cuda") as classifier:
        yield classifier


def test_every_compute_node_of_every_published_model_is_on_the_gpu(model: Path) -> None:
    with Classifier(model, device="cuda") as classifier:
        assert (classifier.device, list(classifier.placement)) == ("cuda:0", ["CUDAExecutionProvider"])
        assert classifier.info()["gpu"]["notice"] is None


@pytest.mark.parametrize("tf32", [False, True])
def test_golden_parity_of_every_published_model(model: Path, tf32: bool) -> None:
    with Classifier(model, device="cuda", tf32=tf32) as classifier:
        report = measure_parity(classifier)

    assert report.passed, report
    assert report.as_dict()["tf32"] is tf32


def test_the_same_class_as_the_cpus_for_every_test_image(model: Path, test_images: Pixels, test_labels: Pixels) -> None:
    images = test_images[:, None]
    with Classifier(model, device="cuda") as gpu, Classifier(model, device="cpu") as cpu:
        flips = np.flatnonzero(gpu.logits(images).argmax(axis=1) != cpu.logits(images).argmax(axis=1))
        report = measure_accuracy(gpu, images, test_labels)

        assert flips.tolist() == []
        assert report.correct == gpu.metadata.fields["accuracy"]["correct"]


def test_batches_are_replayed_as_graphs_one_for_each_size(lenet: Classifier, test_images: Pixels) -> None:
    for count in (1, 5, 8, 100):
        lenet.logits(test_images[:count, None])
    gpu = lenet.info()["gpu"]

    assert (gpu["graphs"], gpu["notice"], gpu["batch_sizes"]) == (True, None, [1, 8, 128])


def test_mixed_batch_sizes_give_what_an_uncaptured_session_gives(model: Path, test_images: Pixels) -> None:
    """Each size is replayed after the others were captured: no capture may spoil an earlier one."""
    images = test_images[:1500, None]
    with (
        Classifier(model, device="cuda") as replayed,
        Classifier(model, device="cuda", tuning=Tuning(graphs=False)) as run,
    ):
        expected = run.logits(images, 1024)
        for _ in range(3):
            for count in MIXED:
                np.testing.assert_allclose(replayed.logits(images[:count], 1024), expected[:count], atol=1e-3)
        assert replayed.info()["gpu"]["notice"] is None


def test_memory_on_the_gpu_is_flat_over_mixed_sizes(lenet: Classifier, test_images: Pixels) -> None:
    images = test_images[:2000, None].copy()
    for bucket in BUCKETS:
        lenet.logits(images[:bucket], 1024)
    before = memory_used(0)
    assert before
    rng = np.random.default_rng(0)
    for count in rng.integers(1, 2000, 300):
        lenet.logits(images[:count], 1024)

    after = memory_used(0)
    assert after is not None
    assert after <= before * 1.05


def test_eight_threads_and_threads_that_come_and_go_get_the_serial_answers(
    lenet: Classifier, test_images: Pixels
) -> None:
    images = test_images[:1500, None].copy()
    expected = lenet.logits(images, 1024)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(MIXED)
        answers = ((count, lenet.logits(images[:count], 1024)) for count in order)
        wrong.extend((seed, count) for count, answer in answers if not np.allclose(answer, expected[:count], atol=1e-4))

    for wave in range(3):
        threads = [threading.Thread(target=work, args=(8 * wave + index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_two_classifiers_capture_in_two_threads_at_the_same_time(test_images: Pixels) -> None:
    images = test_images[:300, None].copy()
    notices: list[Any] = []

    def work() -> None:
        with Classifier(WEIGHTS / "lenet", device="cuda") as classifier:
            for count in (1, 8, 30, 60, 120, 250):
                classifier.logits(images[:count])
            notices.append(classifier.info()["gpu"]["notice"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert notices == [None] * 4


@pytest.mark.parametrize("algorithms", ALGORITHMS)
@pytest.mark.parametrize("nhwc", [False, True])
def test_no_setting_of_speed_changes_an_answer(algorithms: str, nhwc: bool, test_images: Pixels) -> None:
    images = test_images[:256, None]
    with (
        Classifier(WEIGHTS / "lenet", device="cuda", tuning=Tuning(algorithms, nhwc=nhwc)) as classifier,
        Classifier(WEIGHTS / "lenet", device="cpu") as cpu,
    ):
        np.testing.assert_allclose(classifier.logits(images), cpu.logits(images), atol=1e-3)


def test_no_gpu_visible_is_exit_4_with_the_cause_and_auto_answers_on_the_cpu() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "runtime", "parity", "-m", str(WEIGHTS / "lenet")]

    def run(*device: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *device], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
        )

    refused, answered = run("--device", "cuda"), run()

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "the NVIDIA driver finds no usable GPU" in refused.stderr
    assert answered.returncode == 0
    assert "using the CPU: the NVIDIA driver finds no usable GPU" in answered.stderr
