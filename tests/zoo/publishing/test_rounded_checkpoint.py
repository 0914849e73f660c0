"""A half-size export keeps a rounded checkpoint beside it, which never takes the place of the trained one."""

import json
from pathlib import Path

import pytest
from support.command_line import call

from export.verification.speed import adds_products_in_32_bits
from runtime.datasets import fashion_mnist
from runtime.model.registry import read_index
from zoo.publishing.publish import export_trained
from zoo.runs import checkpoint
from zoo.runs.checkpoint import CheckpointError
from zoo.runs.trained import load_trained

PUBLISHED = Path(__file__).resolve().parents[3] / "weights"


@pytest.fixture
def exported(fashion_mnist_dir: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's weights, with a half-size export of the published lenet and no run."""
    images, labels = fashion_mnist.load("test")
    monkeypatch.setattr("zoo.publishing.publish.fashion_mnist.load", lambda split: (images[:300], labels[:300]))
    export_trained(load_trained("lenet"), storage="fp16")
    return empty_home / "weights"


def test_a_later_export_is_of_the_trained_weights_and_not_of_the_rounded_ones(exported):
    origin = checkpoint.sha256_of(PUBLISHED / "lenet" / "checkpoint.safetensors")
    assert checkpoint.load(exported / "lenet" / "checkpoint.safetensors").rounded_from == origin

    assert load_trained("lenet").checkpoint.sha256() == origin
    result = call("zoo", "export", "lenet", "--json")
    entry = read_index(exported)["lenet"]

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["checkpoint"]["sha256"] == origin
    assert (entry["storage"], entry["rounding"]) == ("fp32", None)
    assert checkpoint.sha256_of(exported / "lenet" / "checkpoint.safetensors") == origin


def test_rounded_weights_without_their_origin_are_exported_in_int8_alone(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.runs.trained.folders", lambda: [("user", exported)])
    trained = load_trained("lenet")

    for precision in ({}, {"storage": "fp16"}, {"storage": "int8"}, {"dtype": "fp16"}):
        with pytest.raises(CheckpointError, match=r"holds weights rounded from .*give the trained ones with --checkp"):
            export_trained(trained, tmp_path / "other", **precision)
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(not adds_products_in_32_bits(), reason="this CPU has no VNNI, and int8 sums saturate")
def test_int8_of_a_published_half_size_checkpoint_verifies_against_it(exported, tmp_path, monkeypatch):
    """Who clones the repository has only the rounded weights of a large model, and wants the fast file all the same."""
    monkeypatch.setattr("zoo.runs.trained.folders", lambda: [("published", exported)])
    monkeypatch.setattr("zoo.publishing.verify.CALIBRATION", 64)
    monkeypatch.setattr("zoo.publishing.publish.CHOOSING", 200)
    published = exported / "lenet" / "checkpoint.safetensors"
    trained, folder = load_trained("lenet"), tmp_path / "int8"
    entry, _ = export_trained(trained, folder, dtype="int8", purpose="size", max_drop=0.05)
    files = ["--onnx", folder / "lenet" / "model.onnx", "--checkpoint", published]
    result = call("zoo", *["verify", "lenet", "--images", "300", "--max-drop", "0.05", "--json"], *files)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"]
    assert trained.source.endswith("(published, rounded to fp16)")
    assert (entry["dtype"], entry["checkpoint"]["sha256"]) == ("int8", checkpoint.sha256_of(published))
    assert entry["rounding"]["n"] == 300
    assert (folder / "lenet" / "checkpoint.safetensors").read_bytes() == published.read_bytes()


def test_weights_rounded_to_integers_are_exported_in_int8_no_more_than_in_others(exported, tmp_path):
    """Their loss is larger than the budget of int8, and would not be seen."""
    export_trained(load_trained("lenet"), tmp_path / "int4", storage="int4", max_drop=0.05)
    trained = load_trained("lenet", tmp_path / "int4" / "lenet" / "checkpoint.safetensors")

    with pytest.raises(CheckpointError, match="holds weights rounded from"):
        export_trained(trained, tmp_path / "int8", dtype="int8", purpose="size")
