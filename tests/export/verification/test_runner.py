"""The checks: each one catches the break that is its own, and lets a good file through."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
import torch
from torch import nn

from export import Description, Report, verify
from export.bundle.artifact import expectations
from export.convert.exporter import build_graph
from export.verification.checks import CHECKS
from runtime.datasets.fashion_mnist import LABELS
from runtime.model.spec import LOGITS
from zoo.models import create_model

IMAGES = 600
DESCRIPTION = Description(name="lenet-modern", labels=LABELS, seed=0, epochs=1)


@pytest.fixture(scope="module")
def pictures(test_images: npt.NDArray[np.uint8], test_labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    return {"images": test_images[:IMAGES, None].copy(), "labels": test_labels[:IMAGES]}


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


def node(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change_weights(name: str, change: Callable[[Any], Any]) -> Callable[[onnx.ModelProto], None]:
    def mutate(model: onnx.ModelProto) -> None:
        stored = tensor(model, name)
        changed = change(onnx.numpy_helper.to_array(stored).copy()).astype(np.float32)
        stored.CopyFrom(onnx.numpy_helper.from_array(changed, name))

    return mutate


def set_metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def mutate(model: onnx.ModelProto) -> None:
        next(prop for prop in model.metadata_props if prop.key == key).value = value

    return mutate


def set_attribute(op_type: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    def mutate(model: onnx.ModelProto) -> None:
        for name, value in attributes.items():
            found = next(attribute for attribute in node(model, op_type).attribute if attribute.name == name)
            found.CopyFrom(onnx.helper.make_attribute(name, value))

    return mutate


def custom_domain(model: onnx.ModelProto) -> None:
    node(model, "Relu").domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


def external_data(model: onnx.ModelProto) -> None:
    stored = tensor(model, "network.0.weight")
    stored.data_location = onnx.TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="weights.bin")
    stored.ClearField("raw_data")


def subgraph(model: onnx.ModelProto) -> None:
    branch = onnx.helper.make_graph([], "branch", [], [])
    node(model, "Relu").attribute.append(onnx.helper.make_attribute("then_branch", branch))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="")


def random_operator(model: onnx.ModelProto) -> None:
    node(model, "Relu").op_type = "RandomUniformLike"


def dead_branch(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["nowhere"], name="dead/Relu"))


def unused_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "unused"))


def doubled_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].name = model.graph.node[0].name


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 25


def frozen_batch(model: onnx.ModelProto) -> None:
    shape = tensor(model, node(model, "Reshape").input[1])
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([2, 400]), shape.name))
    for info in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        info.type.tensor_type.shape.dim[0].dim_value = 2


def fixed_activation(model: onnx.ModelProto) -> None:
    model.graph.value_info[3].type.tensor_type.shape.dim[0].dim_value = 7


def renamed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    node(model, "Cast").input[0] = "pixels"


def retyped_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def swapped_outputs(model: onnx.ModelProto) -> None:
    first, second = model.graph.output[0].name, model.graph.output[1].name
    model.graph.output[0].name, model.graph.output[1].name = second, first


def swapped_layers(model: onnx.ModelProto) -> None:
    relu, pool = node(model, "Relu"), node(model, "MaxPool")
    relu.op_type, pool.op_type = "MaxPool", "Relu"
    attributes = list(pool.attribute)
    del pool.attribute[:]
    relu.attribute.extend(attributes)


# Each break, and the check that has to catch it (others may, too).
BREAKS: dict[str, tuple[str, Callable[[onnx.ModelProto], None]]] = {
    "custom domain": ("self-contained", custom_domain),
    "external data": ("self-contained", external_data),
    "subgraph": ("self-contained", subgraph),
    "function": ("self-contained", function),
    "random operator": ("self-contained", random_operator),
    "dead branch": ("structure", dead_branch),
    "unused tensor": ("structure", unused_tensor),
    "doubled node name": ("structure", doubled_name),
    "opset of the future": ("structure", newer_opset),
    "zero stride": ("structure", set_attribute("Conv", strides=[0, 1])),
    "renamed input": ("signature", renamed_input),
    "retyped input": ("signature", retyped_input),
    "swapped outputs": ("signature", swapped_outputs),
    "swapped labels": ("signature", set_metadata("labels", '["Bag", "Coat"]')),
    "labels that are not JSON": ("signature", set_metadata("labels", "Bag, Coat")),
    "stale seed": ("signature", set_metadata("seed", "7")),
    "another model's name": ("signature", set_metadata("model", '"lenet"')),
    "frozen batch": ("batch", frozen_batch),
    "one activation's batch fixed": ("structure", fixed_activation),
    "another padding": ("shapes", set_attribute("Conv", pads=[1, 1, 1, 1])),
    "one-sided padding": ("shapes", set_attribute("Conv", pads=[0, 0, 2, 2])),
    "swapped layers": ("shapes", swapped_layers),
    "one weight changed by 1 %": (
        "parity",
        change_weights("network.0.weight", lambda w: w * np.where(np.arange(w.size).reshape(w.shape) == 12, 1.01, 1)),
    ),
    "weights rounded to float16": ("parity", change_weights("network.7.weight", lambda w: w.astype(np.float16))),
    "flipped kernels": ("parity", change_weights("network.0.weight", lambda w: w[:, :, ::-1, ::-1])),
    "swapped channels": ("parity", change_weights("network.3.bias", np.flip)),
    "another mean": ("parity", change_weights("preprocess.mean", lambda m: m * 1.01)),
    "another deviation": ("parity", change_weights("preprocess.std", lambda s: s * 0.99)),
    "softmax over the batch": ("parity", set_attribute("Softmax", axis=0)),
    "one number that no checkpoint holds": (
        "weights",
        change_weights("network.9.bias", lambda b: b + np.eye(1, b.size)[0]),
    ),
    "inverted decisions": ("decisions", change_weights("network.11.weight", np.negative)),
    "labels in another order": ("accuracy", set_metadata("labels", json.dumps(LABELS[::-1]))),
    "a label of another class": ("accuracy", set_metadata("labels", json.dumps([*LABELS[:9], "Hat"]))),
    "declared accuracy": ("accuracy", set_metadata("accuracy", f'{{"n": {IMAGES}, "correct": 1, "top1": 0.99}}')),
}


def test_a_good_export_passes_every_check_in_order(
    network: nn.Module, content: bytes, pictures: dict[str, Any]
) -> None:
    report = report_on(network, content, pictures)

    assert [check.name for check in report.checks] == list(CHECKS)
    assert report.passed, report.failures


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_file_is_caught_by_the_check_that_should_catch_it(
    network: nn.Module, content: bytes, pictures: dict[str, Any], name: str
) -> None:
    check, mutate = BREAKS[name]
    model = onnx.load_from_string(content)
    mutate(model)
    report = report_on(network, model.SerializeToString(), pictures)
    verdicts = {check.name: check.passed for check in report.checks}

    assert verdicts[check] is False, report.as_dict()


def test_every_check_has_a_break_that_it_catches() -> None:
    assert {check for check, _ in BREAKS.values()} == set(CHECKS)


def test_another_activation_is_caught(network: nn.Module, content: bytes, pictures: dict[str, Any]) -> None:
    model = onnx.load_from_string(content)
    node(model, "Relu").op_type = "Sigmoid"

    assert "parity" in [check.name for check in report_on(network, model.SerializeToString(), pictures).failures]


@pytest.mark.parametrize("length", [0, 1, 10, 1000, -1])
def test_a_truncated_file_fails_every_check_it_reaches_and_crashes_none(
    network: nn.Module, content: bytes, pictures: dict[str, Any], length: int
) -> None:
    report = report_on(network, content[:length], pictures)

    assert not report.passed
    assert len(report.checks) == len(CHECKS)


def test_a_file_that_is_not_self_contained_is_never_run(
    network: nn.Module, content: bytes, pictures: dict[str, Any]
) -> None:
    model = onnx.load_from_string(content)
    external_data(model)
    report = report_on(network, model.SerializeToString(), pictures)

    assert all("not run" in check.detail for check in report.checks[1:])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["lenet", "lenet-max", "lenet-relu"])
def test_random_weights_raise_no_false_alarm(name: str, seed: int, pictures: dict[str, Any]) -> None:
    torch.manual_seed(seed)
    network = create_model(name).eval()
    description = Description(name=name, labels=LABELS)
    content = build_graph(network, description.metadata(None))
    report = verify(network, content, **pictures, expected=expectations(description))

    assert report.passed, report.failures


def test_parity_states_its_floor_its_factor_and_what_it_found(
    network: nn.Module, content: bytes, pictures: dict[str, Any]
) -> None:
    parity = next(check for check in report_on(network, content, pictures).checks if check.name == "parity")
    row = parity.measures[LOGITS]

    assert row["tolerance"] == 8 * row["noise_floor"]
    assert 0 < row["max_abs_diff"] <= row["tolerance"] < 1e-3
