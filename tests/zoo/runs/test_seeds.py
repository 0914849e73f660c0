"""Several seeds of one recipe: a folder each, mean and standard deviation, and the pictures of a run."""

import statistics
from pathlib import Path

import pytest
import torch
from support import small_runs
from support.small_runs import RECIPE, small_split

from runtime.errors import UsageError
from zoo.runs.plots import draw_confusion, draw_mistakes
from zoo.runs.seeds import SeedsResult, train_seeds
from zoo.runs.settings import Settings
from zoo.training.evaluation import Evaluation

PNG = b"\x89PNG"

pytestmark = pytest.mark.usefixtures("few_images")


class Sentences(small_runs.StopAfter):
    def __init__(self, batches: int = 0) -> None:
        super().__init__(batches)
        self.said: list[str] = []

    def notice(self, sentence: str) -> None:
        self.said.append(sentence)


def train(folder: Path, *, resume: bool = False, listener: Sentences | None = None) -> SeedsResult:
    settings = Settings(RECIPE.override(epochs=1), seed=5)
    return train_seeds("lenet-modern", settings, 3, folder, device=small_runs.CPU, resume=resume, listener=listener)


def test_seeds_are_runs_of_their_own_and_a_broken_series_goes_on(tmp_path):
    listener = Sentences(batches=20)  # breaks off in the third run
    with pytest.raises(small_runs.Stop):
        train(tmp_path, listener=listener)
    first = (tmp_path / "seed-5" / "checkpoint.safetensors").stat().st_mtime_ns
    series = train(tmp_path, resume=True)

    assert listener.said == ["seed 5", "seed 6", "seed 7"]
    assert (tmp_path / "seed-5" / "checkpoint.safetensors").stat().st_mtime_ns == first
    assert [result.seed for result in series.results] == [5, 6, 7]
    assert len({small_runs.weights(tmp_path / f"seed-{seed}")["network.0.weight"] for seed in (5, 6, 7)}) == 3
    assert series.mean == pytest.approx(statistics.mean(series.accuracies))
    assert series.standard_deviation == pytest.approx(statistics.stdev(series.accuracies))
    document = series.as_dict()
    assert document["seeds"] == [5, 6, 7]
    assert document["measured_on"] == "test"
    assert [row["test_accuracy"] for row in document["runs"]] == document["accuracy"]


def test_a_seed_out_of_range_is_refused_before_the_first_is_trained(tmp_path):
    settings = Settings(RECIPE.override(epochs=1), seed=2**32 - 1)
    with pytest.raises(UsageError, match="from 0 to 2"):
        train_seeds("lenet-modern", settings, 2, tmp_path, device=small_runs.CPU)

    assert not list(tmp_path.iterdir())


def test_one_seed_has_no_spread(tmp_path):
    settings = Settings(RECIPE.override(epochs=1), val_split=True)
    series = train_seeds("lenet-modern", settings, 1, tmp_path, device=small_runs.CPU)

    assert series.standard_deviation is None
    assert series.as_dict()["measured_on"] == "validation"
    for name in ("curves.png", "confusion.png", "mistakes.png", "reliability.png"):
        assert (tmp_path / "seed-0" / name).read_bytes().startswith(PNG)


@pytest.mark.parametrize("wrong", [0, 3, 1000])
def test_pictures_are_drawn_whether_nothing_or_everything_is_wrong(wrong, fashion_mnist_dir):
    data = small_split("test")
    answers = data.labels.clone()
    answers[:wrong] = (answers[:wrong] + 1) % 10
    evaluation = Evaluation(torch.nn.functional.one_hot(answers, 10) * 9.0, data.labels)

    assert evaluation.correct == 1000 - wrong
    assert draw_confusion(evaluation).startswith(PNG)
    assert draw_mistakes(evaluation, data.images).startswith(PNG)
