"""Training on a GPU: a step is the CPU's, and a seed gives the same weights twice."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoo.data.dataset import LabelledImages, load_split
from zoo.models import create_model
from zoo.recipes import recipe_for
from zoo.runs import run
from zoo.runs.settings import Settings
from zoo.training.device import configure_backends
from zoo.training.trainer import Trainer

CUDA = torch.device("cuda", 0)
BATCH = 64

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no usable NVIDIA GPU"),
    pytest.mark.filterwarnings("default"),  # of PyTorch's compiler, such as that TF32 would be faster
]


@pytest.fixture(scope="module")
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, BATCH)]


def weights_after_a_step(
    model: str, data: LabelledImages, device: torch.device, dtype: torch.dtype, compile: bool = False
) -> torch.Tensor:
    """Train one step from the weights of seed 0; return all parameters as float64 on the CPU, one after the other."""
    torch.manual_seed(0)
    network = create_model(model).to(dtype)
    recipe = recipe_for(model, "d2l").override(epochs=1, batch_size=BATCH)
    trainer = Trainer(network, recipe, data.to(device), 0, compile=compile)
    trainer.run_epoch()
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("model", ["lenet", "lenet-modern"])
def test_a_training_step_is_the_cpus(model, compile, data):
    """Within 8 times the CPU's own float32 error, against the step in float64: TF32 would miss it by far."""
    configure_backends(CUDA)
    exact = weights_after_a_step(model, data, torch.device("cpu"), torch.float64)
    on_cpu = weights_after_a_step(model, data, torch.device("cpu"), torch.float32)
    on_cuda = weights_after_a_step(model, data, CUDA, torch.float32, compile)

    assert torch.backends.cudnn.deterministic
    assert (on_cuda - exact).abs().max() <= 8 * (on_cpu - exact).abs().max()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("model", ["lenet-modern", "resnet18"])
def test_a_seed_gives_the_same_weights_twice(tmp_path, model, compile, precision, data, monkeypatch):
    monkeypatch.setattr(run, "load_split", lambda split, device=None: load_split(split, device)[slice(0, 4 * BATCH)])
    recipe = recipe_for(model).override(epochs=2, batch_size=BATCH)
    settings = Settings(recipe, precision=precision, compile=compile)  # type: ignore[arg-type]
    for name in ("a", "b"):
        run.train(model, settings, device=CUDA, folder=tmp_path / name)

    first, second = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("a", "b"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
