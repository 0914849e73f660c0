"""Ctrl-C in `zoo train`: the message is right about what is saved, and its command continues that run."""

import shlex
from typing import Any

import pytest
from click.testing import Result
from support.command_line import call
from support.small_runs import weights

from zoo.cli.progress import TrainingBar
from zoo.runs import checkpoint

BATCHES = 8  # of 128 images, in an epoch of 1,000

pytestmark = pytest.mark.usefixtures("few_images")


def stopped_in_batch(number: int, arguments: list[str]) -> Result:
    """Run `zoo train` and press Ctrl-C in a batch, counted from 1."""
    seen = 0

    def batch(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingBar, "batch", batch)
        return call("zoo", *arguments)


def advised(result: Result) -> list[str]:
    """The words of the command at the end of the message, without the program's name."""
    assert result.exit_code == 1
    program, *arguments = shlex.split(result.stderr.strip().splitlines()[-1].partition(" with: ")[2])
    assert program == "zoo"
    return arguments


@pytest.mark.parametrize("batch", [2, BATCHES + 2])
def test_the_command_advised_after_a_stop_ends_with_the_weights_of_an_unbroken_run(tmp_path, batch):
    asked = ["train", "lenet", "--recipe", "d2l", "--epochs", "2", "--seed", "7", "--lr", "0.5", "-b", "128"]
    asked += ["--precision", "fp32", "--no-compile", "--micro-batch", "64", "--val-split", "--device", "cpu"]
    assert call("zoo", *asked, "-o", tmp_path / "unbroken").exit_code == 0
    broken = tmp_path / "it's a run 1"
    stopped = stopped_in_batch(batch, [*asked, "-o", str(broken)])
    command = advised(stopped)

    assert ("nothing is saved yet" in stopped.stderr) == (batch < BATCHES)
    assert ("--resume" in command) == (batch > BATCHES)
    assert call("zoo", *command).exit_code == 0
    assert weights(broken) == weights(tmp_path / "unbroken")


def test_the_command_advised_after_a_stop_in_the_second_of_two_seeds_keeps_the_first(tmp_path):
    asked = ["train", "lenet", "--recipe", "d2l", "--epochs", "2", "--seed", "7", "--seeds", "2", "-o", str(tmp_path)]
    command = advised(stopped_in_batch(2 * BATCHES + 2, asked))
    first = checkpoint.checkpoint_in(tmp_path / "seed-7").read_bytes()

    assert call("zoo", *command).exit_code == 0
    assert checkpoint.checkpoint_in(tmp_path / "seed-7").read_bytes() == first
    (second,) = (path for path in tmp_path.iterdir() if path.name != "seed-7")
    found = checkpoint.load(checkpoint.checkpoint_in(second))
    assert (found.header["seed"], found.header["recipe"]["name"], found.finished) == (8, "d2l", True)


def test_an_older_run_in_the_folder_is_not_taken_for_what_this_one_saved(tmp_path):
    asked = ["train", "lenet", "--recipe", "d2l", "-o", str(tmp_path)]
    assert call("zoo", *asked, "--epochs", "1").exit_code == 0
    stopped = stopped_in_batch(1, [*asked, "--epochs", "2"])

    assert "nothing is saved yet" in stopped.stderr
    assert advised(stopped) == ["train", "lenet", "--recipe", "d2l", "--epochs", "2", "--output", str(tmp_path)]


def test_a_resumed_run_that_is_stopped_at_once_still_has_what_it_began_with(tmp_path):
    stopped_in_batch(BATCHES + 1, ["train", "lenet", "--recipe", "d2l", "--epochs", "2", "-o", str(tmp_path)])
    again = stopped_in_batch(1, ["train", "lenet", "--resume", "-o", str(tmp_path)])

    assert "whole epochs are saved" in again.stderr
    assert advised(again) == ["train", "lenet", "--output", str(tmp_path), "--resume"]
