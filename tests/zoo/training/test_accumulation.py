"""Gradients of micro-batches add up to those of the batch, and the out-of-memory error names a smaller one."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.data.dataset import LabelledImages, load_split
from zoo.models import create_model
from zoo.recipes import Recipe
from zoo.training.accumulation import CompilationFailed, Gradients, OutOfMemory
from zoo.training.evaluation import evaluate
from zoo.training.trainer import Trainer


class SmallMemory(nn.Module):
    """A network that raises PyTorch's out-of-memory error for more than `images` images."""

    def __init__(self, inner: nn.Module, images: int) -> None:
        super().__init__()
        self.inner = inner
        self.images = images
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        answer: Tensor = self.inner(images)
        if len(images) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return answer


@pytest.fixture(scope="module")
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, 90)]


def gradients_of(
    model: nn.Module, data: LabelledImages, micro_batch: int | None = None
) -> tuple[list[Tensor], float, int]:
    gradients = Gradients(model, 0.1, micro_batch=micro_batch)
    loss, right = gradients.compute(data.images, data.labels, len(data))
    assert all(parameter.grad is not None for parameter in model.parameters())
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], float(loss), int(right)


@pytest.mark.parametrize("micro_batch", [1, 7, 23, 64, 89, 90, 1000])
def test_the_gradients_of_micro_batches_add_up_to_those_of_the_batch(data, micro_batch):
    torch.manual_seed(0)
    network = create_model("lenet-modern")
    small = SmallMemory(copy.deepcopy(network), micro_batch)
    whole, loss, right = gradients_of(network, data)
    pieces, loss_of_pieces, right_of_pieces = gradients_of(small, data, micro_batch)

    assert max(small.passes) <= micro_batch
    assert right_of_pieces == right
    assert loss_of_pieces == pytest.approx(loss, rel=1e-5)
    for ours, expected in zip(pieces, whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_the_gradients_are_those_of_the_mean_loss(data):
    network = create_model("lenet-modern")
    ours, loss, _ = gradients_of(network, data)
    network.zero_grad()
    mean = nn.CrossEntropyLoss(label_smoothing=0.1)(network(data.images), data.labels)
    mean.backward()

    assert loss == pytest.approx(mean.item() * len(data), rel=1e-6)
    for gradient, parameter in zip(ours, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("micro_batch", "advice"), [(None, "try --micro-batch 45"), (12, "try --micro-batch 6"), (1, "another device")]
)
def test_a_pass_that_does_not_fit_names_a_micro_batch_to_try(data, micro_batch, advice):
    with pytest.raises(OutOfMemory, match=f"does not hold a pass of .*{advice}"):
        gradients_of(SmallMemory(create_model("lenet-modern"), 0), data, micro_batch)


def test_what_cannot_be_compiled_names_the_flag(data, monkeypatch):
    import torch._dynamo.exc

    def fail(function: object, **_: object) -> object:
        def compiled(*_: object) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    gradients = Gradients(create_model("lenet-modern"), 0.0, compile_for=90)
    with pytest.raises(CompilationFailed, match=r"no C\+\+ compiler.*--no-compile"):
        gradients.compute(data.images, data.labels, 90)


@pytest.mark.slow
def test_compiled_steps_learn_what_uncompiled_ones_learn(data, monkeypatch):
    # aot_eager captures and differentiates as in training, but runs PyTorch's own kernels: the code that inductor
    # generates for a CPU differs with the instruction set, and PyTorch tests it.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    recipe = Recipe(name="plain", epochs=2, batch_size=32, lr=0.05, momentum=0.9)  # the last batch is of 26
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        trainer = Trainer(create_model("lenet-modern"), recipe, data, seed=0, compile=compiled)
        losses.append([trainer.run_epoch().train_loss for _ in range(2)])

    assert losses[0][1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_an_epoch_in_micro_batches_learns_as_an_epoch_in_whole_batches(data):
    recipe = Recipe(name="plain", epochs=1, batch_size=32, lr=0.05, momentum=0.9)  # the last batch is of 26
    losses = []
    for micro_batch in (None, 10):
        torch.manual_seed(0)
        trainer = Trainer(create_model("lenet-modern"), recipe, data, seed=0, micro_batch=micro_batch)
        losses.append(trainer.run_epoch().train_loss)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_is_measured_in_smaller_batches_where_memory_is_short(data):
    model = SmallMemory(create_model("lenet-modern"), 30)
    expected = model.inner.eval()(data.images)
    evaluation = evaluate(model.train(), data)

    assert model.training
    assert max(model.passes[-4:]) <= 30
    torch.testing.assert_close(evaluation.logits, expected.detach())


def test_bf16_computes_in_bfloat16_and_keeps_weights_and_gradients_in_float32(data):
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
