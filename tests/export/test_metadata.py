"""The metadata of a file: read by everybody alike, or refused; and no file's text is a command to a terminal."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from support.graph_edits import make_network, node

from export import Description, verify
from export.convert.exporter import build_graph
from runtime.datasets.fashion_mnist import LABELS
from runtime.errors import ModelInvalid, UsageError
from runtime.model.metadata import FORMAT_1, INPUT_CONTRACT_1, TensorSpec, encode_metadata, parse_metadata
from runtime.model.spec import FASHION_MNIST

CONTRACT = FASHION_MNIST.as_dict()
GOOD = {"model": "lenet", "labels": list(LABELS), "versions": {"torch": "2"}, "license": "MIT", "seed": 0}


def props(**changed: str) -> dict[str, str]:
    return encode_metadata(GOOD) | changed


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("accuracy", '{"n": 64, "correct": 5, "top1": NaN}'),
        ("recipe", '{"lr": Infinity}'),
        ("recipe", '{"lr": 1, "lr": 2}'),
        ("recipe", "[" * 100_000),
        ("input", json.dumps(CONTRACT).replace("[0, 255]", "[0, 255.0]")),
        ("input", json.dumps(CONTRACT).replace('"batch", 1,', '"batch", true,')),
        ("input", json.dumps(CONTRACT).replace("{", '{"range": [0, 1], ', 1)),
        ("license", "5"),
        ("versions", "5"),
        ("versions", '{"torch": 2}'),
        ("model", '"../../../etc/x"'),
        ("model", '"x\\u001b[2J"'),
        ("model", '".hidden"'),
        ("labels", '["a", "b\\n\\u001b[31m"]'),
        ("labels", '["a", ""]'),
        ("labels", '["a", "\\ud800"]'),
        ("labels", '["a", "b\\u202ec"]'),
    ],
)
def test_what_readers_may_take_differently_or_a_terminal_obeys_is_refused(key, text):
    with pytest.raises(ModelInvalid, match=f"'{key}'|input") as refusal:
        parse_metadata(props(**{key: text}), "the file")

    assert str(refusal.value).isprintable()


def test_a_file_of_format_1_is_read_as_fashion_mnist():
    old = props(format=json.dumps(FORMAT_1), input=json.dumps(INPUT_CONTRACT_1))

    assert parse_metadata(old, "the file").input == FASHION_MNIST
    with pytest.raises(ModelInvalid, match="format 1 has"):
        parse_metadata(old | {"input": json.dumps(CONTRACT)}, "the file")


def test_provenance_may_be_unknown_and_other_programs_may_add_keys():
    metadata = parse_metadata(props(license="null", versions="null", seed="null", added="not even JSON"), "the file")

    assert (metadata.model, metadata.labels) == ("lenet", LABELS)


@pytest.mark.parametrize("label", ["T-shirt/top", "Knöchelstiefel", "می\u200cخواهم", "靴"])
def test_labels_may_be_of_any_language(label):
    Description(name="lenet", labels=[label, "other"])

    assert parse_metadata(props(labels=json.dumps([label, "other"])), "the file").labels == (label, "other")


@pytest.mark.parametrize("labels", [["a", ""], ["a", "b\x1b[2J"], ["a", "a"]])
def test_labels_that_no_reader_would_take_are_not_written(labels):
    with pytest.raises(UsageError, match="printable"):
        Description(name="lenet", labels=labels)


def test_a_hostile_dimension_is_shown_by_its_escape():
    assert str(TensorSpec("x", "FP32", ("\x1b[2J", 1))) == "x FP32[\\x1b[2J, 1]"


@pytest.mark.parametrize("place", ["operator", "domain", "output", "model"])
def test_a_report_holds_no_text_that_a_terminal_obeys(place):
    network = make_network("lenet-modern")
    model = onnx.load_from_string(build_graph(network, Description(name="x", labels=LABELS).metadata(None)))
    hostile = "\x1b[2J\x1b[31mX"

    def change(model: Any) -> None:
        if place == "operator":
            node(model, "Relu").op_type = hostile
        elif place == "domain":
            model.opset_import.add(domain=hostile, version=1)
        elif place == "output":
            model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], [hostile], name="dead"))
        else:
            next(prop for prop in model.metadata_props if prop.key == "model").value = json.dumps(hostile)

    change(model)
    images = np.zeros((2, 1, 28, 28), np.uint8)
    report = verify(network, model.SerializeToString(), images=images, labels=np.zeros(2, np.int64))

    assert not report.passed
    assert report.model.isprintable()
    assert all(check.detail.isprintable() for check in report.checks)
