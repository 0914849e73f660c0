"""How long a training on a CPU will take is said after its first steps, not found out the next morning."""

import pytest
import torch

from zoo.cli import progress
from zoo.cli.progress import Forecast, TrainingBar, duration, passes
from zoo.models import ARCHITECTURES
from zoo.recipes import RECIPES, Recipe, recipe_for
from zoo.training.metrics import RunningMetrics

CPU = torch.device("cpu")
IMAGES = 60_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def said(model: str, recipe: Recipe, clock: list[float], rate: float, epochs_done: int = 0) -> str | None:
    """What a forecast says of a run with a rate of images/s, after a first step of a minute."""
    forecast = Forecast(model, recipe, IMAGES, epochs_done)
    clock[0] += 60
    assert forecast.step(recipe.batch_size) is None
    for _ in range(1000):
        clock[0] += recipe.batch_size / rate
        if (sentence := forecast.step(recipe.batch_size)) is not None:
            return sentence
    return None


@pytest.mark.parametrize("model", RECIPES["cpu"])
def test_a_recipe_for_a_gpu_on_a_cpu_is_told_its_hours_and_the_recipe_for_a_cpu(model: str, clock: list[float]) -> None:
    own = ARCHITECTURES[model].input_size
    best, cpu = recipe_for(model), recipe_for(model, "cpu")
    shorter = duration(IMAGES * passes(cpu, own) / 100)

    assert best.epochs == 60
    assert said(model, best, clock, 100) == (
        f"this run takes about 10 h 0 min on this CPU; --recipe cpu, which is made for CPUs, about {shorter}"
    )


def test_where_there_is_no_recipe_for_a_cpu_or_it_is_taken_already_only_the_time_is_said(clock: list[float]) -> None:
    assert said("densenet", recipe_for("densenet"), clock, 100) == "this run takes about 6 h 40 min on this CPU"
    assert said("lenet", recipe_for("lenet"), clock, 12_000) == "this run takes about 5 min on this CPU"
    assert "--recipe" not in str(said("resnet18", recipe_for("resnet18", "cpu"), clock, 100))


def test_small_images_come_first_and_the_later_ones_cost_more(clock: list[float]) -> None:
    """8 epochs, of which 2 at half the side and 2 at two thirds of it: 2/4 + 2·4/9 + 4 passes at the full side."""
    recipe = recipe_for("resnet18", "cpu").override(epochs=8, sides=(48, 64, 96, 96))
    seconds = IMAGES / 400 * 4 * (2 / 4 + 8 / 9 + 4)  # 400 images/s at a quarter of the pixels

    assert passes(recipe, 96) == pytest.approx(2 / 4 + 8 / 9 + 4)
    assert said("resnet18", recipe, clock, 400) == f"this run takes about {duration(seconds)} on this CPU"
    assert said("resnet18", recipe, clock, 100, epochs_done=4) == "the other 4 epochs take about 40 min on this CPU"


def test_it_is_said_once_and_without_a_terminal_and_only_of_a_cpu(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bars = {
        "said": TrainingBar("vgg11", recipe_for("vgg11"), CPU),
        "of a GPU": TrainingBar("vgg11", recipe_for("vgg11"), torch.device("cuda", 0)),
    }
    lines = {}
    for name, bar in bars.items():
        with bar:
            bar.started(IMAGES, 60, 0)
            for _ in range(10):
                clock[0] += 14
                bar.batch(512, RunningMetrics(CPU))
        lines[name] = capsys.readouterr().err.splitlines()

    assert [len(found) for found in lines.values()] == [1, 0]
    assert lines["said"][0].startswith("this run takes about 27 h 21 min on this CPU")


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 min"), (100, "2 min"), (3599, "1 h 0 min"), (5460, "1 h 31 min")])
def test_a_time_is_said_to_the_minute(seconds: float, text: str) -> None:
    assert duration(seconds) == text
