"""Progressive resizing: every epoch has images of its size, and evaluation has the network's own size."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runtime.errors import UsageError
from zoo.data.dataset import LabelledImages, load_split
from zoo.models import create_model
from zoo.models.preprocess import ImageClassifier, Preprocess
from zoo.models.vgg import VGG, vgg_block
from zoo.recipes import RECIPES, Recipe
from zoo.runs import run
from zoo.runs.settings import Settings
from zoo.training.trainer import Trainer

RECIPE = Recipe(
    name="cpu", epochs=5, batch_size=64, lr=0.05, momentum=0.9, schedule="cosine", flip=True, sides=(28, 20, 32)
)


@pytest.fixture(scope="module")
def data(fashion_mnist_dir: Path) -> LabelledImages:
    return load_split("train")[slice(0, 128)]


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = {name: tensor.clone() for name, tensor in trainer.state().items()}
    return state | {f"trained/{name}": tensor.clone() for name, tensor in trainer.trained.state_dict().items()}


def pooled() -> ImageClassifier:
    """A network for images of 32 pixels that takes any other size too."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return ImageClassifier(Preprocess(32), nn.Sequential(*layers, nn.Linear(4, 10)))


class SmallVGG(VGG):
    map_side = 16


def dense() -> ImageClassifier:
    """A network for images of 32 pixels whose dense layers take maps of 16 by 16; images of 20 give 10 by 10."""
    torch.manual_seed(0)
    head = nn.Flatten(), nn.Linear(4 * 16 * 16, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
    return ImageClassifier(Preprocess(32), SmallVGG(vgg_block(1, 1, 4), *head))


both = pytest.mark.parametrize("build", [pooled, dense])
Build = Callable[[], ImageClassifier]


@pytest.fixture
def seen() -> Iterator[list[tuple[bool, int]]]:
    """(in training mode, side) of each batch that a convolution is given."""
    shown: list[tuple[bool, int]] = []

    def look(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d):
            shown.append((module.training, args[0].shape[-1]))

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    yield shown
    handle.remove()


@both
def test_the_sides_share_the_epochs_and_every_measurement_is_at_the_networks_own(build, data, seen):
    trainer = Trainer(build(), RECIPE, data, 0, validation=data)
    seen.clear()  # each side is tried first
    for _ in range(RECIPE.epochs):
        trainer.run_epoch()

    assert [side for training, side in seen if training] == [side for side in (28, 20, 20, 32, 32) for _ in range(2)]
    assert {side for training, side in seen if not training} == {32}


@pytest.mark.parametrize(("epochs", "expected"), [(1, [32]), (2, [20, 32]), (3, [28, 20, 32]), (4, [28, 20, 32, 32])])
def test_however_few_epochs_there_are_the_last_has_the_last_side(epochs, expected):
    recipe = RECIPE.override(epochs=epochs)

    assert [recipe.side_at(epoch) for epoch in range(epochs)] == expected


def test_a_recipe_without_sides_shows_the_networks_own(data, seen):
    Trainer(pooled(), RECIPE.override(sides=()), data, 0).run_epoch()

    assert {side for _, side in seen} == {32}


def test_an_epoch_that_is_broken_off_leaves_the_network_its_own_side(data):
    trainer = Trainer(pooled(), RECIPE, data, 0)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run_epoch(stop)

    assert trainer.model.preprocess.size == 32


@both
def test_a_run_broken_off_between_sides_and_resumed_ends_with_the_same_bits(build, data):
    unbroken, resumed = Trainer(build(), RECIPE, data, 0), Trainer(build(), RECIPE, data, 0)
    for _ in range(2):
        unbroken.run_epoch()
    resumed.load_state(2, copy.deepcopy(unbroken.trained.state_dict()), copy.deepcopy(unbroken.state()))
    for trainer in (unbroken, resumed):
        for _ in range(3):
            trainer.run_epoch()

    expected = tensors_of(unbroken)
    assert all(torch.equal(tensors_of(resumed)[key], tensor) for key, tensor in expected.items())


def test_small_maps_are_resized_to_those_that_the_dense_layers_take():
    network = dense().network.eval()
    images = torch.rand(2, 1, 20, 20)
    maps = F.interpolate(network[0](images), size=(16, 16), mode="bilinear", align_corners=False)

    assert torch.equal(network(images), network[1:](maps))


def test_what_small_images_need_is_no_part_of_the_weights_or_of_the_exported_graph():
    with torch.device("meta"):
        ours = create_model("vgg11").eval()
        plain = ImageClassifier(ours.preprocess, nn.Sequential(*ours.network)).eval()
        images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    with ours.at_image_size(64):
        ours(images)
    batch = {"images": {0: torch.export.Dim("batch")}}
    graphs = [str(torch.export.export(each, (images,), dynamic_shapes=batch).graph) for each in (ours, plain)]

    assert list(ours.state_dict()) == list(plain.state_dict())
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("model", ["lenet", "alexnet"])
def test_a_network_of_one_side_is_refused_and_no_older_run_is_set_aside(model, tmp_path, fashion_mnist_dir):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"an older run's")
    with pytest.raises(UsageError, match="shows images of 20 pixels"):
        run.train(model, Settings(RECIPE), device=torch.device("cpu"), folder=tmp_path)

    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint.safetensors", ".lock"}
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"an older run's"


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for name in RECIPES for model, recipe in RECIPES[name].items() if recipe.sides]
)
def test_a_recipe_with_sides_fits_its_network_and_ends_with_the_networks_own(name, model):
    recipe, network = RECIPES[name][model], create_model(model)
    nothing = LabelledImages(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1).long())
    Trainer(network, recipe, nothing, 0)

    assert recipe.sides[-1] == network.preprocess.size
