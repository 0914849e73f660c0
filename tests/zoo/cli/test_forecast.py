"""The forecast of a training on a CPU: without it, users find out the next morning that a run takes days."""

import pytest
import torch

from zoo.cli import progress
from zoo.cli.progress import TrainingBar, duration, forecast, passes
from zoo.models import ARCHITECTURES
from zoo.recipes import RECIPES, recipe_for
from zoo.training.metrics import RunningMetrics

CPU = torch.device("cpu")
IMAGES = 60_000


@pytest.mark.parametrize("model", RECIPES["cpu"])
def test_a_recipe_for_a_gpu_on_a_cpu_is_told_its_hours_and_the_recipe_for_a_cpu(model):
    best, cpu = recipe_for(model), recipe_for(model, "cpu")
    shorter = duration(IMAGES * passes(cpu, ARCHITECTURES[model].input_size) / 100)

    assert best.epochs == 60
    assert forecast(model, best, IMAGES, 0, 100) == (
        f"this run takes about 10 h 0 min on this CPU; --recipe cpu, which is made for CPUs, about {shorter}"
    )


def test_without_a_recipe_for_a_cpu_or_with_it_only_the_time_is_said():
    densenet, lenet = recipe_for("densenet"), recipe_for("lenet")

    assert forecast("densenet", densenet, IMAGES, 0, 100) == "this run takes about 6 h 40 min on this CPU"
    assert forecast("lenet", lenet, IMAGES, 0, 12_000) == "this run takes about 5 min on this CPU"
    assert "--recipe" not in forecast("resnet18", recipe_for("resnet18", "cpu"), IMAGES, 0, 100)


def test_small_images_come_first_and_the_later_ones_cost_more():
    """8 epochs, of which 2 at half the side and 2 at two thirds of it: 2/4 + 2·4/9 + 4 passes at the full side."""
    recipe = recipe_for("resnet18", "cpu").override(epochs=8, sides=(48, 64, 96, 96))
    seconds = IMAGES / 400 * 4 * (2 / 4 + 8 / 9 + 4)  # 400 images/s at a quarter of the pixels

    assert passes(recipe, 96) == pytest.approx(2 / 4 + 8 / 9 + 4)
    assert forecast("resnet18", recipe, IMAGES, 0, 400) == f"this run takes about {duration(seconds)} on this CPU"
    assert forecast("resnet18", recipe, IMAGES, 4, 100) == "the other 4 epochs take about 40 min on this CPU"


def test_a_forecast_is_printed_once_without_a_terminal_and_only_for_a_cpu(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = []
    for device in (CPU, torch.device("cuda", 0)):
        with TrainingBar("vgg11", recipe_for("vgg11"), device) as bar:
            bar.started(IMAGES, 60, 0)
            now[0] += 60  # the first step, which does not count
            for _ in range(10):
                bar.batch(512, RunningMetrics(CPU))
                now[0] += 14
        lines.append(capsys.readouterr().err.splitlines())

    assert [len(printed) for printed in lines] == [1, 0]
    assert lines[0][0].startswith("this run takes about 27 h 21 min on this CPU")


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 min"), (100, "2 min"), (3599, "1 h 0 min"), (5460, "1 h 31 min")])
def test_a_time_is_said_to_the_minute(seconds, text):
    assert duration(seconds) == text
