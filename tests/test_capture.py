"""The whole step as one recording: it does what the steps one by one do, and making it leaves no trace."""

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_gradients import Normed
from torch import Tensor

from runtime.errors import UsageError
from zoo import capture, training
from zoo.average import Average
from zoo.capture import StepKind, StepNotRecorded
from zoo.data import LabelledImages, load_split
from zoo.distributed import World
from zoo.gradients import Gradients
from zoo.models import create_model
from zoo.recipes import Recipe
from zoo.settings import Settings, settle
from zoo.training import Trainer, refuse_step

# All that a step can hold; the last of the four batches is of 54 images.
FULL = Recipe(
    name="best",
    epochs=3,
    batch_size=64,
    lr=3e-3,
    optimizer="adamw",
    schedule="cosine",
    warmup=0.2,
    weight_decay=0.05,
    label_smoothing=0.1,
    flip=True,
    shift=2,
    erase=0.5,
    ema=0.9,
)
RECIPES = {
    "adamw": FULL,
    "momentum": FULL.override(optimizer="sgd", momentum=0.9, lr=0.05),
    "cutmix": FULL.override(cutmix=0.5),
    "mixup": FULL.override(mixup=0.5, erase=0.0),
    "plain": Recipe(name="d2l", epochs=3, batch_size=64, lr=0.1, normalize=False),
    "no last batch": FULL.override(batch_size=123),
}


class Rerun:
    """In place of a CUDA graph: runs the recorded function again, and like a graph does nothing while it records."""

    made: list["Rerun"]

    def __init__(self, device: torch.device) -> None:
        self.replays = 0
        self._function: Callable[[], None] = lambda: None
        Rerun.made.append(self)

    def warm_up(self, function: Callable[[], None]) -> None:
        function()

    def record(self, function: Callable[[], None]) -> None:
        self._function = function

    def replay(self) -> None:
        self.replays += 1
        self._function()


@pytest.fixture
def float32_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates that float32 holds: a graph keeps them so, and AdamW enlarges any difference a thousandfold."""
    lr_at = Recipe.lr_at
    monkeypatch.setattr(Recipe, "lr_at", lambda *arguments: float(np.float32(lr_at(*arguments))))


@pytest.fixture
def reruns(monkeypatch: pytest.MonkeyPatch, float32_rates: None) -> Iterator[list[Rerun]]:
    """Recordings on the CPU, on one thread; yields those that are made.

    On several threads, steps one by one add up the shares of a batch, which a recorded step computes whole.
    """
    Rerun.made = []
    monkeypatch.setattr(capture, "CudaRecording", Rerun)
    monkeypatch.setattr(training, "refuse_step", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Rerun.made
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, 246)]


def trainer_of(
    data: LabelledImages, recipe: Recipe, step: StepKind, device: str = "cpu", dropout: float = 0.5, **extra: Any
) -> Trainer:
    torch.manual_seed(0)
    model = Normed(dropout) if recipe.momentum else create_model("lenet-modern", normalize=recipe.normalize)
    return Trainer(model, recipe, data.to(torch.device(device)), 0, data.to(torch.device(device)), step=step, **extra)


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    state = {name: tensor.clone() for name, tensor in trainer.state().items()}
    return state | {f"trained/{name}": tensor.clone() for name, tensor in trainer.trained.state_dict().items()}


@pytest.mark.parametrize("name", RECIPES)
def test_recorded_steps_learn_to_the_bit_what_steps_one_by_one_learn(
    name: str, data: LabelledImages, reruns: list[Rerun]
) -> None:
    recipe = RECIPES[name]
    one_by_one, recorded = (trainer_of(data, recipe, step) for step in ("eager", "graph"))
    curves = [[trainer.run_epoch() for _ in range(3)] for trainer in (one_by_one, recorded)]

    full = len(data) // recipe.batch_size
    assert [rerun.replays for rerun in reruns] == [3 * full - 1]  # but for the run's very first step
    ours, expected = tensors_of(recorded), tensors_of(one_by_one)
    assert ours.keys() == expected.keys()
    assert [key for key, tensor in expected.items() if not torch.equal(ours[key], tensor)] == []
    for found, wanted in zip(*curves, strict=True):
        assert (found.lr, found.train_loss, found.train_accuracy, found.val_accuracy) == (
            wanted.lr,
            wanted.train_loss,
            wanted.train_accuracy,
            wanted.val_accuracy,
        )


@pytest.mark.parametrize("name", ["adamw", "momentum"])
def test_a_recorded_run_broken_off_and_resumed_ends_with_the_same_bits(
    name: str, data: LabelledImages, reruns: list[Rerun]
) -> None:
    unbroken = trainer_of(data, RECIPES[name], "graph")
    for _ in range(2):
        unbroken.run_epoch()
    resumed = trainer_of(data, RECIPES[name], "graph")
    resumed.load_state(2, copy.deepcopy(unbroken.trained.state_dict()), copy.deepcopy(unbroken.state()))
    for trainer in (unbroken, resumed):
        trainer.run_epoch()

    ours, expected = tensors_of(resumed), tensors_of(unbroken)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in expected.items())
    assert len(reruns) == 2


@pytest.mark.parametrize("name", RECIPES)
def test_recording_leaves_no_trace(name: str, data: LabelledImages, reruns: list[Rerun]) -> None:
    trainer = trainer_of(data, RECIPES[name], "graph")
    before = tensors_of(trainer)
    trainer._record()
    after = tensors_of(trainer)

    assert len(reruns) == 1
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert all(not after[key].any() for key in after.keys() - before.keys())  # an optimiser's state, of zeros
    assert all(not group.get("capturable") for group in trainer.optimizer.param_groups)


def test_without_memory_for_a_whole_step_the_run_goes_on_step_by_step_and_says_so(
    data: LabelledImages, reruns: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Gradients, images: Tensor, labels: Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory, says the test")

    expected = trainer_of(data, FULL, "eager")
    monkeypatch.setattr(Gradients, "compute_whole", full)
    said: list[str] = []
    trainer = trainer_of(data, FULL, "graph", notice=said.append)
    for each in (expected, trainer):
        each.run_epoch()

    assert trainer.step == "eager"
    assert said == [
        "the memory of cpu does not hold a CUDA graph of a step of 64 images: going on without one",
    ]
    ours = tensors_of(trainer)
    assert [key for key, tensor in tensors_of(expected).items() if not torch.equal(ours[key], tensor)] == []


def test_a_step_that_cannot_be_recorded_is_one_sentence_with_the_way_out(
    data: LabelledImages, reruns: list[Rerun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Rerun, function: Callable[[], None]) -> None:
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(Rerun, "record", refuse)
    with pytest.raises(StepNotRecorded, match=r"use --step eager \(CUDA error: operation not permitted when stream"):
        trainer_of(data, FULL, "graph").run_epoch()


def test_steps_that_the_device_or_the_processes_do_not_have_are_refused() -> None:
    refuse_step("eager", torch.device("cpu"), World(0, 2))
    refuse_step("graph", torch.device("cuda", 0), World())
    with pytest.raises(UsageError, match="steps as a graph need a CUDA device, and this run is on cpu"):
        refuse_step("graph", torch.device("cpu"), World())
    with pytest.raises(UsageError, match="2 processes take each step together"):
        refuse_step("compile", torch.device("cuda", 0), World(0, 2))


def test_the_step_left_open_is_a_graph_on_one_gpu_and_eager_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = functools.partial(settle, "lenet", None, None, {}, None, False, None)
    assert choose(torch.device("cuda")).step == "graph"
    assert choose(torch.device("cuda"), "eager").step == "eager"
    assert choose(torch.device("cpu")).step == "eager"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    assert choose(torch.device("cuda")).step == "eager"
    with pytest.raises(UsageError, match="must be eager, graph, compile, not 'fast'"):
        choose(torch.device("cpu"), "fast")
    older = {name: value for name, value in Settings(FULL).as_dict().items() if name != "step"}
    assert Settings.from_dict(older).step == "eager"


def test_the_average_is_what_pytorchs_own_gives() -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(0)
    model = Normed()
    ours, theirs = Average(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(5):
        for tensor in model.state_dict().values():
            tensor.add_(1 if tensor.dtype is torch.int64 else torch.randn_like(tensor))
        ours.update()
        theirs.update_parameters(model)

    expected = theirs.module.state_dict()
    for name, tensor in ours.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name])
        else:
            assert torch.equal(tensor, model.state_dict()[name])


def test_only_batches_of_the_size_asked_for_are_compiled(data: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compile_nothing(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        assert options == {"dynamic": False}

        def compiled(images: Tensor, labels: Tensor) -> Any:
            sizes.append(len(images))
            return function(images, labels)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_nothing)
    gradients = Gradients(create_model("lenet"), 0.0, compile_for=64)
    for count in (64, 54, 64):
        gradients.compute(data.images[:count], data.labels[:count], count)

    assert sizes == [64, 64]


on_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


class TestOnCuda:
    pytestmark = on_cuda

    @pytest.mark.usefixtures("float32_rates")
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("name", RECIPES)
    def test_a_graph_learns_what_steps_one_by_one_learn(self, name: str, precision: Any, data: LabelledImages) -> None:
        one_by_one, recorded = (
            trainer_of(data, RECIPES[name], step, "cuda", 0.0, precision=precision) for step in ("eager", "graph")
        )
        for trainer in (one_by_one, recorded):
            losses = [trainer.run_epoch().train_loss for _ in range(3)]
        assert recorded.step == "graph"
        tolerance = 1e-3 if precision == "fp32" else 0.1
        for key, tensor in one_by_one.trained.state_dict().items():
            torch.testing.assert_close(recorded.trained.state_dict()[key], tensor, rtol=tolerance, atol=tolerance)
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("step", ["graph", "compile"])
    @pytest.mark.parametrize("name", ["adamw", "momentum"])
    def test_a_seed_gives_the_same_bits_twice_resumed_or_not_dropout_included(
        self, name: str, step: StepKind, data: LabelledImages
    ) -> None:
        unbroken, again, resumed = (trainer_of(data, RECIPES[name], step, "cuda", precision="bf16") for _ in range(3))
        for trainer in (unbroken, again):
            for _ in range(2):
                trainer.run_epoch()
        resumed.load_state(2, copy.deepcopy(unbroken.trained.state_dict()), copy.deepcopy(unbroken.state()))
        for trainer in (unbroken, again, resumed):
            trainer.run_epoch()

        expected = tensors_of(unbroken)
        for other in (again, resumed):
            ours = tensors_of(other)
            assert [key for key, tensor in expected.items() if not torch.equal(ours[key], tensor)] == []

    def test_dropout_draws_new_masks_at_every_replay(self, data: LabelledImages) -> None:
        masks = []
        trainer = trainer_of(data, RECIPES["momentum"], "graph", "cuda")
        trainer.run_epoch()
        model = trainer.model
        assert isinstance(model, Normed)
        static = torch.ones(1000, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            dropped = model.layers[3](static)
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            for _ in range(2):
                graph.replay()
                masks.append(dropped.clone())

        assert torch.equal(masks[0], masks[2])
        assert torch.equal(masks[1], masks[3])
        assert not any(torch.equal(masks[0], other) for other in (masks[1], masks[4], masks[5]))

    @pytest.mark.parametrize("model", ["lenet", "vgg11", "resnet18", "densenet"])
    def test_networks_of_the_zoo_can_be_recorded(self, model: str, data: LabelledImages) -> None:
        trainer = Trainer(create_model(model), FULL, data.to(torch.device("cuda")), 0, precision="bf16", step="graph")
        trainer.run_epoch()

        assert trainer.step == "graph"
        assert trainer.run_epoch().train_loss > 0
