"""The networks are D2L's: names, sizes, shapes and first weights."""

import math

import pytest
import torch
from torch import nn

from runtime.errors import UsageError
from runtime.model.registry import ALIASES
from zoo.models import ARCHITECTURES, canonical_name, create_model, list_models

SIZES = {  # name: (side of the input, parameters)
    "lenet": (28, 61_706),
    "lenet-max": (28, 61_706),
    "lenet-relu": (28, 61_706),
    "lenet-modern": (28, 61_706),
    "alexnet": (224, 46_764_746),
    "vgg11": (224, 43_093_322),
    "vgg11-full": (224, 128_806_154),
    "nin": (224, 1_992_166),
    "googlenet": (96, 5_977_530),
    "resnet18": (96, 11_178_378),
    "resnext": (96, 1_697_546),
    "densenet": (96, 758_226),
}


def test_the_models_are_listed_in_the_order_of_d2l_and_a_pattern_picks_some():
    assert list_models() == list(SIZES)
    assert list_models("vgg*") == ["vgg11", "vgg11-full"]
    assert list_models("no such*") == []


@pytest.mark.parametrize("name", list_models())
def test_a_network_has_the_size_that_d2l_gives(name):
    side, parameters = SIZES[name]

    with torch.device("meta"):
        network = create_model(name)

    assert ARCHITECTURES[name].input_size == network.preprocess.size == side
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["lenet", "nin", "googlenet", "resnet18", "resnext", "densenet"])
def test_the_first_weights_are_glorot_uniform_as_in_d2l(name):
    torch.manual_seed(0)

    for layer in create_model(name).modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        fans = layer.weight[0].numel(), layer.weight.shape[0] * layer.weight[0, 0].numel()
        bound = math.sqrt(6 / sum(fans))  # Glorot and Bengio, 2010: uniform up to here, so of variance bound² / 3
        assert layer.weight.abs().max() <= bound
        if layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert layer.bias is not None, "D2L's layers have a bias"


def test_the_same_seed_gives_the_same_network():
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(create_model("resnext").parameters())

    assert all(map(torch.equal, weights(0), weights(0)))
    assert not all(map(torch.equal, weights(0), weights(1)))


def test_an_alias_stands_for_a_model_and_is_not_listed():
    assert canonical_name("vgg") == "vgg11"
    for alias in ALIASES:
        assert canonical_name(alias) in list_models()
        assert alias not in list_models()


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("resnet-18", "resnet18"), ("LeNet", "lenet"), ("vg11", "vgg11"), ("densnet", "densenet")]
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_known_ones(wrong, nearest):
    with pytest.raises(UsageError) as caught:
        create_model(wrong)

    assert f"there is no model {wrong!r}: did you mean {nearest!r}?" in str(caught.value)
    assert all(name in str(caught.value) for name in list_models())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("zebra", "there is no model 'zebra'; known models: lenet, ")]
    + [(name, "a model's name is a text, not .*; known models: lenet, ") for name in (3, None, ["lenet"], b"lenet")],
)
def test_a_name_that_resembles_none_is_refused_with_the_known_ones(name, sentence):
    with pytest.raises(UsageError, match=sentence):
        create_model(name)  # type: ignore[arg-type]
