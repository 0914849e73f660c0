"""`zoo export --layout`: which weights it takes, and what it says before it starts."""

import pytest
from support.command_line import call

from runtime.model.registry import find_model
from zoo.publishing.deploy import exported


def test_a_damaged_checkpoint_is_an_error_and_no_other_weights_are_shipped_in_its_place(tmp_path, empty_home):
    damaged = empty_home / "runs" / "lenet" / "checkpoint.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    done = call("zoo", "export", "lenet", "--layout", "triton", "-o", tmp_path / "models")
    plain = call("zoo", "export", "lenet")

    assert (done.exit_code, done.stderr) == (1, plain.stderr)
    assert str(damaged) in done.stderr
    assert not (tmp_path / "models").exists()


def test_without_weights_and_without_a_file_the_sentence_says_how_to_train(tmp_path, empty_home, monkeypatch):
    for module in ("zoo.runs.trained", "runtime.model.registry"):
        monkeypatch.setattr(f"{module}.folders", list)
    done = call("zoo", "export", "densenet", "--layout", "triton", "-o", tmp_path / "models")

    assert done.exit_code == 1
    assert done.stderr.endswith("densenet has not been trained on this machine: run `zoo train densenet`\n")
    assert not (tmp_path / "models").exists()


def test_without_weights_the_file_that_the_name_means_is_used(empty_home, monkeypatch):
    """As with the wheel alone."""
    monkeypatch.setattr("zoo.runs.trained.folders", list)

    assert exported("lenet") == find_model("lenet")


def test_an_unknown_model_is_a_usage_error_whatever_else_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("export.deploy.web.repository_weights", lambda: None)  # so that no onnxruntime-web is found
    monkeypatch.chdir(tmp_path)
    done = call("zoo", "export", "nosuch", "--layout", "web", "-o", "site")

    assert done.exit_code == 2
    assert "nosuch" in done.stderr
    assert "lenet" in done.stderr
    assert "npm" not in done.stderr


@pytest.mark.parametrize(("layout", "taken"), [("web", "thesis.tex"), ("triton", "lenet/thesis.tex")])
def test_a_folder_that_is_refused_is_refused_before_the_proof(tmp_path, monkeypatch, layout, taken):
    def proof(*_: object) -> None:
        raise AssertionError("the minutes of a proof were spent")

    monkeypatch.setattr("zoo.publishing.deploy.exported", proof)
    monkeypatch.setattr("export.deploy.web.find_onnxruntime_web", lambda start: start)
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("years of work")
    done = call("zoo", "export", "lenet", "--layout", layout, "-o", tmp_path)

    assert done.exit_code == 1
    assert "holds other files" in done.stderr
