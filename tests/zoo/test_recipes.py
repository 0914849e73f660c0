"""Recipes cannot be changed, refuse wrong values, and give a learning rate that depends on the step alone."""

import dataclasses
import json

import pytest

from runtime.errors import UsageError
from zoo.models import list_models
from zoo.recipes import RECIPES, Recipe, recipe_for


@pytest.mark.parametrize("name", ["best", "d2l"])
@pytest.mark.parametrize("model", list_models())
def test_every_model_has_both_recipes(name, model):
    assert recipe_for(model, name).name == name


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_called_as_the_table_says_and_is_for_models_of_the_zoo(name):
    assert {recipe.name for recipe in RECIPES[name].values()} == {name}
    assert RECIPES[name].keys() <= set(list_models())


def test_the_recipe_d2l_is_that_of_d2l():
    recipe = recipe_for("lenet", "d2l")

    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.optimizer, recipe.momentum) == (10, 128, 0.1, "sgd", 0)
    assert (recipe.schedule, recipe.warmup, recipe.weight_decay, recipe.normalize) == ("constant", 0, 0, False)
    assert (recipe.flip, recipe.shift, recipe.erase, recipe.label_smoothing, recipe.ema) == (False, 0, 0, 0, 0)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"there are: best, d2l$"):
        recipe_for("lenet", "worst")
    with pytest.raises(UsageError, match=r"there are: best, cpu, d2l$"):
        recipe_for("resnet18", "worst")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("momentum", 1.0),
        ("warmup", 1.0),
        ("weight_decay", -1e-4),
        ("label_smoothing", 1.0),
        ("shift", 15),
        ("erase", 1.5),
        ("erase_side", 1),
        ("erase_side", 29),
        ("sides", (4,)),
        ("sides", (1000,)),
        ("sides", (32.0,)),
        ("ema", 1.0),
        ("optimizer", "adam"),
        ("schedule", "step"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(field, value):
    with pytest.raises(UsageError, match=field):
        recipe_for("lenet").override(**{field: value})


def test_a_recipe_is_read_from_json_as_it_was_written_and_cannot_be_changed():
    recipe = recipe_for("vgg11", "cpu")

    assert recipe.sides
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1.0  # type: ignore[misc]


def test_a_recipe_of_another_version_is_refused():
    with pytest.raises(UsageError, match="not one of this version"):
        Recipe.from_dict(recipe_for("lenet").as_dict() | {"dropblock": 1.0})


def test_a_recipe_of_a_checkpoint_from_when_images_could_be_mixed_is_read_unless_they_were():
    recipe = recipe_for("lenet")

    assert Recipe.from_dict(recipe.as_dict() | {"mixup": 0.0, "cutmix": 0.0}) == recipe
    with pytest.raises(UsageError, match="cutmix"):
        Recipe.from_dict(recipe.as_dict() | {"mixup": 0.0, "cutmix": 0.5})


@pytest.mark.parametrize(("schedule", "late"), [("cosine", 0.0245), ("linear", 0.1)])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(schedule, late):
    recipe = recipe_for("lenet").override(lr=1.0, warmup=0.1, schedule=schedule)
    rates = [recipe.lr_at(step, 1000) for step in range(1000)]

    assert rates[0] < 0.02
    assert max(rates) == rates[100] == 1.0
    assert rates == sorted(rates[:100]) + sorted(rates[100:], reverse=True)
    assert rates[910] == pytest.approx(late, rel=0.01)  # a tenth of the fall is left
    assert rates[-1] < 1 / 900 + 1e-9


def test_a_constant_rate_is_constant():
    recipe = recipe_for("lenet", "d2l")

    assert {recipe.lr_at(step, 100) for step in range(100)} == {0.1}
