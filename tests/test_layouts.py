"""`zoo export --layout`: which weights it takes, and what it says before it starts."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runtime.store import find_model
from zoo.cli import zoo
from zoo.layouts import exported


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(zoo, [*map(str, words)])


def test_a_damaged_checkpoint_is_an_error_and_no_other_weights_are_shipped_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    damaged = tmp_path / "home" / "runs" / "lenet" / "checkpoint.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    done, plain = run("export", "lenet", "--layout", "triton", "-o", tmp_path / "models"), run("export", "lenet")

    assert (done.exit_code, done.stderr) == (1, plain.stderr)
    assert str(damaged) in done.stderr
    assert not (tmp_path / "models").exists()


def test_without_weights_and_without_a_file_the_sentence_says_how_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    for module in ("zoo.trained", "runtime.store"):
        monkeypatch.setattr(f"{module}.folders", list)
    done = run("export", "vgg", "--layout", "triton", "-o", tmp_path / "models")

    assert done.exit_code == 1
    assert done.stderr.endswith("vgg11 has not been trained on this machine: run `zoo train vgg11`\n")
    assert not (tmp_path / "models").exists()


def test_without_weights_the_file_that_the_name_means_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the wheel alone."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("zoo.trained.folders", list)

    assert exported("lenet") == find_model("lenet")
