"""Gradients in pieces: what a short memory changes is the size of the pieces, never the sums."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.data import LabelledImages, load_split
from zoo.evaluation import evaluate
from zoo.gradients import Gradients, OutOfMemory
from zoo.models import create_model
from zoo.recipes import Recipe
from zoo.training import Trainer


class SmallMemory(nn.Module):
    """A network on a device that holds only so many images at a time."""

    def __init__(self, inner: nn.Module, images: int) -> None:
        super().__init__()
        self.inner = inner
        self.images = images
        self.attempts: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.attempts.append(len(images))
        answer: Tensor = self.inner(images)
        if len(images) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return answer


class Normed(nn.Module):
    """A little network with dropout and batch norm."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(2704, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.to(self.layers[0].weight.dtype) / 255)
        return logits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Pieces are for GPUs; on several cores of a CPU a batch is shared among threads instead, see test_shares."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, 90)]


def gradients_of(model: nn.Module, data: LabelledImages, smoothing: float = 0.1) -> tuple[list[Tensor], float, int]:
    said: list[str] = []
    loss, right = Gradients(model, smoothing, notice=said.append).compute(data.images, data.labels, len(data))
    assert all(parameter.grad is not None for parameter in model.parameters())
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], float(loss), int(right)


@pytest.mark.parametrize("fitting", [1, 7, 23, 64, 89])
def test_the_pieces_gradients_add_up_to_those_of_the_batch(data: LabelledImages, fitting: int) -> None:
    torch.manual_seed(0)
    network = create_model("lenet-modern")
    small = SmallMemory(copy.deepcopy(network), fitting)
    whole, loss, right = gradients_of(network, data)
    pieces, loss_of_pieces, right_of_pieces = gradients_of(small, data)

    assert max(small.attempts[-2:]) <= fitting
    assert right_of_pieces == right
    assert loss_of_pieces == pytest.approx(loss, rel=1e-6)
    for ours, expected in zip(pieces, whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_the_gradients_are_those_of_the_mean_loss(data: LabelledImages) -> None:
    network = create_model("lenet-modern")
    ours, loss, _ = gradients_of(network, data)
    network.zero_grad()
    mean = nn.CrossEntropyLoss(label_smoothing=0.1)(network(data.images), data.labels)
    mean.backward()

    assert loss == pytest.approx(mean.item() * len(data), rel=1e-6)
    for gradient, parameter in zip(ours, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_failed_attempt_leaves_no_trace_in_statistics_or_random_numbers(data: LabelledImages) -> None:
    """What follows an out-of-memory error is what would have followed had the pieces been small from the start."""
    network = Normed()
    outcomes = []
    for attempts in (0, 2):
        torch.manual_seed(1)
        model = SmallMemory(copy.deepcopy(network), 90)
        gradients = Gradients(model, 0.0)
        if attempts:
            model.images = 30
        else:
            gradients._piece = 23
        gradients.compute(data.images, data.labels, len(data))
        assert model.attempts == [*[90, 45][:attempts], 23, 23, 23, 21]
        outcomes.append([tensor.clone() for tensor in model.state_dict().values()] + [torch.rand(1)])

    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_smaller_pieces_are_said_once_and_kept(data: LabelledImages) -> None:
    said: list[str] = []
    model = SmallMemory(create_model("lenet-modern"), 40)
    gradients = Gradients(model, 0.0, notice=said.append)
    for _ in range(2):
        gradients.compute(data.images, data.labels, len(data))

    assert said[0].startswith("out of memory with 90 images at once: going on with pieces of 45")
    assert len(said) == 2
    assert model.attempts == [90, 45] + [23, 23, 23, 21] * 2


def test_memory_for_not_even_one_image_is_one_sentence(data: LabelledImages) -> None:
    with pytest.raises(OutOfMemory, match="does not hold the training of one image"):
        gradients_of(SmallMemory(create_model("lenet-modern"), 0), data)


def test_an_epoch_in_pieces_learns_as_an_epoch_in_one(data: LabelledImages) -> None:
    recipe = Recipe(name="plain", epochs=1, batch_size=32, lr=0.05, momentum=0.9)  # the last batch is of 26
    losses = []
    for fitting in (32, 10):
        torch.manual_seed(0)
        trainer = Trainer(SmallMemory(create_model("lenet-modern"), fitting), recipe, data, seed=0)
        losses.append(trainer.run_epoch().train_loss)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_is_measured_in_smaller_batches_where_memory_is_short(data: LabelledImages) -> None:
    model = SmallMemory(create_model("lenet-modern"), 30)
    expected = model.inner.eval()(data.images)
    evaluation = evaluate(model.train(), data)

    assert model.training
    assert max(model.attempts[-5:]) <= 30
    torch.testing.assert_close(evaluation.logits, expected.detach())


def test_bf16_computes_in_bfloat16_and_keeps_weights_and_gradients_in_float32(data: LabelledImages) -> None:
    torch.manual_seed(0)
    network = create_model("lenet-modern")
    seen: list[torch.dtype] = []
    network.network.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.dtype))
    exact, rough = (copy.deepcopy(network) for _ in range(2))
    Gradients(exact, 0.0).compute(data.images, data.labels, 90)
    Gradients(rough, 0.0, precision="bf16").compute(data.images, data.labels, 90)

    for one, other in zip(exact.parameters(), rough.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert other.dtype == other.grad.dtype == torch.float32
        assert not torch.equal(one.grad, other.grad)
        assert (one.grad - other.grad).norm() < 0.1 * one.grad.norm()
    assert seen == [torch.float32, torch.bfloat16]
