"""`zoo diff` and the example of a network from elsewhere."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.command_line import call
from support.exports import content_of
from support.graph_edits import attribute, change, make_network, metadata

from export.bundle.diff import diff
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import ModelInvalid
from runtime.model.registry import read_index

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def content() -> bytes:
    return content_of(make_network("lenet-modern"))


def mutated(content: bytes, *mutations: Any) -> bytes:
    model = onnx.load_from_string(content)
    for mutate in mutations:
        mutate(model)
    return model.SerializeToString()


def test_a_file_is_the_same_as_itself(content):
    assert diff(content, content, np.zeros((2, 1, 28, 28), np.uint8)).same


def test_every_change_is_named(content, test_images):
    other = mutated(content, change("Conv", 2, lambda bias: bias + 0.5), attribute("Gemm", alpha=0.5))
    found = diff(content, other, test_images[:8, None].copy())

    assert found.nodes == ["network.7/Gemm: alpha: 1.0 -> 0.5"]
    assert found.weights == ["network.0.bias: 6 of 6 numbers differ, by up to 0.5"]
    assert not found.metadata
    assert not found.form
    assert all(value and value > 0 for value in found.outputs.values())


def with_labels(labels: tuple[str, ...]) -> Any:
    return metadata("labels", json.dumps(labels))


def test_answers_are_compared_by_the_names_of_the_classes(content, test_images):
    images = test_images[:8, None].copy()
    flips = [change("Gemm", index, lambda array: array[::-1], nth=-1) for index in (1, 2)]
    same = diff(content, mutated(content, with_labels(LABELS[::-1]), *flips), images)  # the same classifier
    other = diff(content, mutated(content, with_labels(LABELS[::-1])), images)

    assert same.weights
    assert all(value is not None and value < 1e-5 for value in same.outputs.values())
    assert all(value and value > 0.01 for value in other.outputs.values())


@pytest.mark.parametrize(
    ("labels", "lines"),
    [
        ((*LABELS[:9], "Boots"), ["labels[9]: Ankle boot -> Boots"]),  # behind what a message would cut off
        (LABELS[:9], ["labels[9]: Ankle boot -> nothing"]),
    ],
)
def test_labels_that_differ_are_named_and_their_answers_are_not_compared(labels, lines, content, test_images):
    found = diff(content, mutated(content, with_labels(labels)), test_images[:2, None].copy())

    assert (found.metadata, found.same) == (lines, False)
    assert found.outputs == {"logits": None, "probabilities": None}


def test_a_hostile_file_is_not_compared(content):
    with pytest.raises(ModelInvalid, match="the second file is not opened"):
        diff(content, content[:-3], np.zeros((2, 1, 28, 28), np.uint8))


def test_the_command_prints_one_document(content, tmp_path, fashion_mnist_dir):
    (tmp_path / "a.onnx").write_bytes(content)
    done = call("zoo", "diff", tmp_path / "a.onnx", tmp_path / "a.onnx", "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["same"] is True


def test_a_long_list_ends_with_how_many_more_there_are(content, tmp_path, fashion_mnist_dir):
    (tmp_path / "a.onnx").write_bytes(content)
    more = onnx.load_from_string(content)
    for number in range(30):
        more.metadata_props.add(key=f"key {number}", value="1")
    (tmp_path / "b.onnx").write_bytes(more.SerializeToString())
    done = call("zoo", "diff", tmp_path / "a.onnx", tmp_path / "b.onnx")

    assert done.exit_code == 0, done.output
    assert len([line for line in done.stdout.splitlines() if line.startswith("metadata: key ")]) == 20
    assert "metadata: and 10 more, which --json lists\n" in done.stdout


@pytest.mark.slow
def test_the_example_of_an_own_network_runs(tmp_path, monkeypatch, fashion_mnist_dir):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import own_network

    own_network.main(tmp_path, count=40)

    assert read_index(tmp_path)["own"]["parameters"] > 11_000_000
    sys.modules.pop("own_network")
