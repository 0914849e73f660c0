"""A batch shared among threads: what each core computes by itself adds up to the gradients of the batch."""

import copy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.data import LabelledImages, load_split
from zoo.gradients import Gradients
from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.shares import SMALLEST_SHARE, Shares, divisible
from zoo.training import Trainer


@pytest.fixture
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, 300)]


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads for PyTorch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def gradients_of(network: nn.Module, data: LabelledImages) -> tuple[list[Tensor], float, int]:
    loss, right = Gradients(network, 0.1).compute(data.images, data.labels, len(data))
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None], float(loss), int(right)


@pytest.mark.parametrize("images", [1, 63, 64, 128, 300])
def test_the_shares_gradients_add_up_to_those_of_the_batch(data: LabelledImages, threads: int, images: int) -> None:
    torch.manual_seed(0)
    network = create_model("lenet-modern")
    shared, loss, right = gradients_of(copy.deepcopy(network), data[slice(0, images)])
    torch.set_num_threads(1)  # one thread shares with nobody
    whole, loss_of_whole, right_of_whole = gradients_of(network, data[slice(0, images)])

    assert right == right_of_whole
    assert loss == pytest.approx(loss_of_whole, rel=1e-6)
    for ours, expected in zip(shared, whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_seed_gives_the_same_bits_however_the_threads_take_turns(data: LabelledImages, threads: int) -> None:
    outcomes = []
    for _ in range(2):
        torch.manual_seed(0)
        trainer = Trainer(create_model("lenet"), recipe_for("lenet", "best"), data, seed=0)
        for _ in range(3):
            trainer.run_epoch()
        outcomes.append(trainer.state() | trainer.model.state_dict())

    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in outcomes[0])


def test_each_share_is_computed_in_a_thread_of_its_own_on_one_core(data: LabelledImages, threads: int) -> None:
    seen: dict[int, tuple[int, int]] = {}
    together = threading.Barrier(threads, timeout=60)

    def differentiate(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        together.wait()  # nobody goes on before all are here: the shares do run side by side
        seen[threading.get_ident()] = len(labels), torch.get_num_threads()
        return torch.ones(()), torch.tensor(len(labels)), [torch.ones(2)]

    shares = Shares()
    loss, count, gradients = shares.compute(differentiate, data.images, data.labels)

    assert sorted(seen.values()) == [(300 // threads, 1)] * threads
    assert (float(loss), int(count), gradients[0].tolist()) == (threads, 300, [threads] * 2)
    assert torch.get_num_threads() == threads
    with shares.at_work():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_a_batch_too_small_to_share_stays_whole(data: LabelledImages, threads: int) -> None:
    sizes: list[int] = []

    def differentiate(_images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        sizes.append(len(labels))
        return torch.zeros(()), torch.zeros(()), []

    Shares().compute(differentiate, data.images[: 2 * SMALLEST_SHARE - 1], data.labels[: 2 * SMALLEST_SHARE - 1])

    assert sizes == [2 * SMALLEST_SHARE - 1]


def test_an_error_in_a_share_is_the_batchs(data: LabelledImages, threads: int) -> None:
    def differentiate(_images: Tensor, _labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        raise ArithmeticError("says the test")

    with pytest.raises(ArithmeticError, match="says the test"):
        Shares().compute(differentiate, data.images, data.labels)


@pytest.mark.parametrize(
    ("model", "expected"), [("lenet", True), ("googlenet", True), ("resnet18", False), ("vgg11", False), ("nin", False)]
)
def test_batch_norm_and_dropout_keep_a_batch_whole(model: str, expected: bool) -> None:
    assert divisible(create_model(model)) is expected
