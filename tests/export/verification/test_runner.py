"""Verification as a whole: a good file passes every check, in order. `test_mutants.py` has what each check refuses."""

import json
from typing import Any

import onnx
import pytest
import torch
from support.exports import content_of
from support.graph_edits import change, make_network, metadata
from torch import nn

from export import Description, Report, verify
from export.bundle.artifact import expectations
from export.convert.exporter import build_graph
from export.verification.checks import CHECKS
from runtime.datasets.fashion_mnist import LABELS
from runtime.model.metadata import LOGITS
from zoo.models import create_model

IMAGES = 600
DESCRIPTION = Description(name="lenet-modern", labels=LABELS, seed=0, epochs=1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return create_model("lenet-modern").eval()


@pytest.fixture(scope="module")
def content(network: nn.Module, pictures: dict[str, Any]) -> bytes:
    with torch.inference_mode():
        right = network(torch.from_numpy(pictures["images"])).argmax(1).numpy() == pictures["labels"]
    accuracy = {"n": IMAGES, "correct": int(right.sum()), "top1": int(right.sum()) / IMAGES}
    return build_graph(network, DESCRIPTION.metadata(accuracy))


def report_on(network: nn.Module, content: bytes, pictures: dict[str, Any]) -> Report:
    return verify(network, content, **pictures, expected=expectations(DESCRIPTION))


def test_a_good_export_passes_every_check_in_order(network, content, pictures):
    report = report_on(network, content, pictures)

    assert [check.name for check in report.checks] == list(CHECKS)
    assert report.passed, report.failures


@pytest.mark.parametrize("labels", [LABELS[::-1], (*LABELS[:9], "Hat")], ids=["another order", "another class"])
def test_a_right_answer_is_one_of_the_right_name(network, content, pictures, labels):
    model = onnx.load_from_string(content)
    metadata("labels", json.dumps(labels))(model)

    assert "accuracy" in [check.name for check in report_on(network, model.SerializeToString(), pictures).failures]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["lenet", "lenet-max", "lenet-relu"])
def test_random_weights_raise_no_false_alarm(name, seed, pictures):
    torch.manual_seed(seed)
    network = create_model(name).eval()
    description = Description(name=name, labels=LABELS)
    content = build_graph(network, description.metadata(None))
    report = verify(network, content, **pictures, expected=expectations(description))

    assert report.passed, report.failures


def test_parity_states_its_floor_its_factor_and_what_it_found(network, content, pictures):
    parity = next(check for check in report_on(network, content, pictures).checks if check.name == "parity")
    row = parity.measures[LOGITS]

    assert row["tolerance"] == 8 * row["noise_floor"]
    assert 0 < row["max_abs_diff"] <= row["tolerance"] < 1e-3


@pytest.mark.parametrize(
    ("place", "expected"),
    [(1, ", weight: 1 of "), (2, ": no tensor is the bias that goes with its weights: 1 of ")],
    ids=["weight", "bias"],
)
def test_a_wrong_number_of_a_folded_layer_is_named_where_it_is(pictures, place, expected):
    def one_off(array):
        array.reshape(-1)[5] = array.reshape(-1)[5] * 1.01 + 1e-3
        return array

    network = make_network("small-resnet")
    model = onnx.load_from_string(content_of(network))
    change("Conv", place, one_off, nth=1)(model)
    report = verify(network, model.SerializeToString(), **pictures)
    (found,) = (check.detail for check in report.checks if check.name == "weights")

    assert " folded in" + expected in found
